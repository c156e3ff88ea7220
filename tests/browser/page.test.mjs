// The page at `/` in a real Chromium: what a person sees and does. tests/browser.sh runs this.

import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import { createServer } from 'node:net';

import { launch, start, store, visit } from './support.mjs';

let browser;
before(async () => { browser = await launch(); });
after(() => browser.close());

// Runs `body` with a page over a server of its own.
function pageTest(name, { settings, documents, ...options }, body) {
  test(name, { timeout: 60_000 }, async () => {
    const server = await start(settings);
    try {
      if (documents) await store(server, documents);
      await visit(browser, server, options, (page) => body(page, server));
    } finally {
      await server.stop();
    }
  });
}

const ready = (page) => page.getByText('· ready').waitFor();
const box = (page) => page.getByLabel('New document');
const items = (page) => page.getByRole('listitem');
const button = (page, name) => page.getByRole('button', { name, exact: true });
const isFocused = (locator) => locator.evaluate((element) => element === document.activeElement);
const width = (page) => page.evaluate(() => document.documentElement.scrollWidth);

// What the page says is wrong with a field, as assistive technology is told.
async function problemOf(field) {
  assert.equal(await field.getAttribute('aria-invalid'), 'true');
  const id = (await field.getAttribute('aria-describedby')).split(' ')[0];
  const problem = field.page().locator(`[id="${id}"][role="alert"]`);
  assert.ok(await problem.isVisible());
  return problem.textContent();
}

describe('documents', () => {
  pageTest('an empty store says so, and takes a document that is then seen', {}, async (page) => {
    await page.getByText('none yet').waitFor();
    await box(page).fill('{"name": "Ada", "n": 9007199254740993, "2": 1.0, "1": {"$date": "2016-11-22T00:00:00Z"}}');
    await button(page, 'Store').click();
    const item = items(page).first();
    await item.waitFor();
    const id = await item.getByRole('link').textContent();
    assert.equal(
      await item.locator('pre').textContent(),
      `{\n  "_id": {"$oid": "${id}"},\n  "name": "Ada",\n  "n": 9007199254740993,\n  "2": 1.0,\n` +
        '  "1": {"$date": "2016-11-22T00:00:00Z"}\n}',
    );
    assert.equal(await page.locator('#stored').textContent(), `Stored /data/${id}`);
    assert.equal(await box(page).inputValue(), '');
    const answer = await page.request.get(await item.getByRole('link').getAttribute('href'));
    assert.match(await answer.text(), /9007199254740993/);
  });

  pageTest('an array is stored, nested and empty values are shown', {}, async (page) => {
    await ready(page);
    await box(page).fill('[{"_id": 1, "a": {"b": [1, {"c": []}], "d": {}}}, {"_id": "two, {\\"x\\"}"}]');
    await button(page, 'Store').click();
    await page.getByText('Stored 2').waitFor();
    await items(page).nth(1).waitFor();
    const [two, one] = await page.locator('pre').allTextContents();
    assert.equal(two, '{\n  "_id": "two, {\\"x\\"}"\n}');
    assert.equal(
      one,
      '{\n  "_id": 1,\n  "a": {\n    "b": [\n      1,\n      {\n        "c": []\n      }\n    ],\n    "d": {}\n  }\n}',
    );
    for (const link of await items(page).getByRole('link').all()) {
      const answer = await page.request.get(await link.getAttribute('href'));
      assert.equal(answer.status(), 200, await link.textContent());
    }
  });

  const many = Array.from({ length: 50 }, (_, n) => ({ _id: n }));
  pageTest('paging visits every document once, and comes back', { documents: many }, async (page) => {
    const shown = async (count) => {
      await page.getByText(`page ${count}`).waitFor();
      return (await items(page).getByRole('link').allTextContents()).map(Number);
    };
    const all = await shown(1);
    assert.ok(!await button(page, 'Newer').isVisible());
    for (const count of [2, 3]) {
      await button(page, 'Older').click();
      all.push(...await shown(count));
    }
    assert.deepEqual(all, Array.from({ length: 50 }, (_, n) => 49 - n));
    // The focus was on a button that went away.
    assert.ok(!await button(page, 'Older').isVisible());
    assert.ok(await isFocused(button(page, 'Newer')));
    await button(page, 'Newer').click();
    assert.equal((await shown(2))[0], 29);
    await button(page, 'Newer').click();
    assert.equal((await shown(1))[0], 49);
    assert.ok(await isFocused(button(page, 'Older')));
  });
});

describe('errors', () => {
  pageTest("the server's own words stand at the box, which keeps its text and the focus", {}, async (page) => {
    await box(page).fill('{"name": Ada}');
    await button(page, 'Store').click();
    await page.getByText('line 1 column 10').waitFor();
    assert.match(await problemOf(box(page)), /line 1 column 10/);
    assert.ok(await isFocused(box(page)));
    assert.equal(await box(page).inputValue(), '{"name": Ada}');

    await box(page).fill('{"name": "Ada"}');
    await button(page, 'Store').click();
    await items(page).first().waitFor();
    assert.equal(await box(page).getAttribute('aria-invalid'), 'false');
    assert.equal(await page.locator('#json-error').textContent(), '');
  });

  pageTest('each document of an array that is refused is named', { documents: [{ _id: 1 }] }, async (page) => {
    await box(page).fill('[{"_id": 0}, {"_id": 1}]');
    await button(page, 'Store').click();
    await page.getByText('1 of 2 documents').waitFor();
    assert.match(await problemOf(box(page)), /\n1: A document with _id 1 already exists\.$/);
  });

  test('a server that is gone is said to be', { timeout: 60_000 }, async () => {
    const server = await start();
    await visit(browser, server, {}, async (page) => {
      await ready(page);
      await server.stop();
      await box(page).fill('{}');
      await button(page, 'Store').click();
      await page.getByText('cannot be reached').waitFor();
      assert.match(await problemOf(box(page)), /cannot be reached/);
      assert.equal(await box(page).inputValue(), '{}');
    });
  });

  // The port is this test's: nobody else can listen there, and connections are reset.
  const closed = createServer((socket) => socket.destroy());
  before(() => new Promise((resolve) => closed.listen(0, '127.0.0.1', resolve)));
  after(() => closed.close());
  test('without the database the page comes, and tells what is wrong', { timeout: 60_000 }, async () => {
    const server = await start({ MONGODB_URI: `mongodb://ada:hush@127.0.0.1:${closed.address().port}/shop` });
    try {
      await visit(browser, server, {}, async (page) => {
        assert.equal(await page.locator('bdi').first().textContent(), 'MongoDB, shop.data');
        await page.getByText('· not ready').waitFor();
        const problem = await page.locator('#list-error').textContent();
        assert.match(problem, /MongoDB cannot be reached/);
        assert.ok(!problem.includes('hush'));
        await box(page).fill('{}');
        await button(page, 'Store').click();
        await page.locator('#json-error:not(:empty)').waitFor();
        assert.match(await problemOf(box(page)), /MongoDB/);
      });
    } finally {
      await server.stop();
    }
  });
});

describe('hostile documents stay text', () => {
  const script = '<script>alert(1)</script><img src=x onerror=alert(1)><style>*{display:none}</style>';
  const close = '</title></textarea></script></pre><iframe src="//example.com">';
  const override = 'a\u202e\u2066evil"} ,{';

  const hostile = [{ _id: script, [script]: close }, { _id: close, a: script }, { _id: override, [override]: override, שלום: 'א' }];
  pageTest('markup and marks of direction', { documents: hostile }, async (page) => {
    await items(page).nth(2).waitFor();
    const texts = await page.locator('pre').allTextContents();
    assert.ok(texts.some((text) => text.includes(JSON.stringify(script).replaceAll('\\/', '/'))), texts.join('\n'));
    assert.equal(await page.locator('iframe, img, #list script, #list style').count(), 0);
    assert.equal(await page.title(), 'two-tier');
    // What comes behind such a string on its line still stands behind it.
    for (const key of ['evil', 'שלום']) {
      const [end, colon] = await page.locator('.key').filter({ hasText: key }).evaluate((element) => {
        const range = document.createRange();
        range.selectNode(element.nextSibling.nextSibling);
        return [element.getBoundingClientRect().right, range.getBoundingClientRect().left];
      });
      assert.ok(colon >= end - 1, `${key}: the colon is at ${colon}, the key goes to ${end}`);
    }
    assert.ok(texts.some((text) => text.includes('"a\\u202e\\u2066evil')), texts.join('\n'));
    for (const link of await items(page).getByRole('link').all()) {
      assert.equal((await page.request.get(await link.getAttribute('href'))).status(), 200);
    }
  });

  pageTest('typed by a person', {}, async (page) => {
    await box(page).fill(JSON.stringify({ [script]: script }));
    await button(page, 'Store').click();
    await page.locator('pre').getByText('alert(1)').first().waitFor();
    await box(page).fill(`{"a": ${script}`);
    await button(page, 'Store').click();
    await page.locator('#json-error:not(:empty)').waitFor();
  });

  const long = { _id: 'long', text: 'x'.repeat(1_000_000) };
  pageTest('one of 1 MB is cut, and says so', { documents: [long], viewport: { width: 360, height: 640 } }, async (page) => {
    await items(page).first().waitFor();
    const text = await items(page).first().textContent();
    assert.ok(text.length < 5000, `${text.length} characters are shown`);
    assert.match(text, /The first 4000 of 10000\d\d characters/);
    assert.ok(await width(page) <= 360);
    const whole = await page.request.get(await items(page).getByRole('link').getAttribute('href'));
    assert.equal((await whole.json()).text.length, 1_000_000);
  });

  const numbers = Array.from({ length: 3 }, (_, n) => ({ _id: n, numbers: Array(80_000).fill(7) }));
  pageTest('many numbers do not freeze the page', { settings: { MAX_BODY: '16MiB' }, documents: numbers }, async (page) => {
    await items(page).nth(2).waitFor();
    await box(page).fill('{}');
    assert.ok(await page.locator('#list *').count() < 10_000);
  });
});

describe('people', () => {
  const few = Array.from({ length: 21 }, (_, n) => ({ _id: n }));
  pageTest('works by keyboard alone, with the focus to be seen', { documents: few }, async (page) => {
    await page.getByText('page 1').waitFor();
    await page.keyboard.press('Tab');
    assert.ok(await isFocused(box(page)));
    await page.keyboard.type('{"_id": "typed"}');
    await page.keyboard.press('Control+Enter');
    await items(page).getByText('"typed"').first().waitFor();
    assert.ok(await isFocused(box(page)));
    const seen = [];
    for (const name of ['Store', '/data/typed', 'Older']) {
      await page.keyboard.press('Tab');
      const focused = page.locator(':focus');
      seen.push(await focused.textContent());
      assert.equal(await focused.evaluate((element) => getComputedStyle(element).outlineWidth), '3px', name);
    }
    assert.deepEqual(seen, ['Store', '/data/typed', 'Older']);
    await page.keyboard.press('Enter');
    await page.getByText('page 2').waitFor();
    await items(page).getByText('1').first().waitFor();
  });

  const wide = [{ _id: 'w'.repeat(300), ['k'.repeat(300)]: 'v'.repeat(300) }];
  for (const colorScheme of ['light', 'dark']) {
    const options = { documents: wide, colorScheme, viewport: { width: 360, height: 640 } };
    pageTest(`fits a phone, and can be read, ${colorScheme}`, options, async (page) => {
      await items(page).first().waitFor();
      assert.ok(await width(page) <= 360, `${await width(page)}`);
      await box(page).fill(`{"${'long'.repeat(100)}": nope}`);
      await button(page, 'Store').click();
      await page.locator('#json-error:not(:empty)').waitFor();
      assert.ok(await width(page) <= 360);
      const low = await page.evaluate(contrasts);
      assert.deepEqual(low, []);
      const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const brightness = background.match(/\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3;
      assert.equal(brightness < 128, colorScheme === 'dark', background);
    });
  }

  pageTest('without JavaScript there are the welcome, the time and what to do', { javaScriptEnabled: false }, async (page) => {
    assert.equal(await page.getByRole('heading').first().textContent(), 'Welcome to the two-tier app!');
    assert.ok(Math.abs(Date.parse(await page.locator('time').textContent()) - Date.now()) < 60_000);
    assert.ok(await page.locator('noscript code').first().isVisible());
    assert.ok(!await box(page).isVisible());
  });

  const guarded = { settings: { API_TOKEN: 'open-sesame' } };
  pageTest('a token is asked for where one is set, and forgotten with the page', guarded, async (page, server) => {
    const token = page.getByLabel('API token');
    await token.waitFor();
    assert.match(await problemOf(token), /token/);
    assert.ok(await isFocused(token));
    await token.fill('guess');
    await page.keyboard.press('Enter');
    await page.getByText('is not the one').waitFor();
    assert.match(await problemOf(token), /is not the one/);

    await token.fill('open-sesame');
    await page.keyboard.press('Enter');
    await page.getByText('none yet').waitFor();
    assert.ok(!await token.isVisible());
    assert.ok(await isFocused(box(page)));
    await page.keyboard.type('{"_id": "mine"}');
    await button(page, 'Store').click();
    await items(page).first().waitFor();

    // A link opens as well, though a browser sends no token along.
    const opened = page.waitForEvent('popup');
    await items(page).getByRole('link').click();
    assert.match(await (await opened).locator('body').textContent(), /{"_id":"mine"}/);
    assert.equal((await fetch(`${server.url}/data/mine`)).status, 401);

    assert.equal(await page.evaluate(() => localStorage.length + sessionStorage.length + document.cookie.length), 0);
    await page.reload();
    await token.waitFor();
    assert.equal(await token.inputValue(), '');
    assert.equal(await items(page).count(), 0);
  });

  pageTest('tells assistive technology what is what', {}, async (page) => {
    await ready(page);
    assert.equal(await page.locator('html').getAttribute('lang'), 'en');
    assert.equal(await page.title(), 'two-tier');
    assert.equal(await page.getByRole('main').count(), 1);
    assert.deepEqual(await page.getByRole('heading').allTextContents(), ['Welcome to the two-tier app!', 'Documents']);
    const ids = await page.locator('[id]').evaluateAll((elements) => elements.map((element) => element.id));
    assert.equal(new Set(ids).size, ids.length);
    const named = '[aria-describedby]';
    for (const list of await page.locator(named).evaluateAll((all) => all.map((each) => each.getAttribute('aria-describedby')))) {
      for (const id of list.split(' ')) assert.ok(ids.includes(id), id);
    }
  });
});

// Runs in the page: texts whose contrast with what is behind them is under 4.5 (WCAG 2.2, 1.4.3).
function contrasts() {
  const channels = (color) => color.match(/[\d.]+/g).map(Number);
  const luminance = (color) => {
    const [red, green, blue] = channels(color).slice(0, 3).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (channels(color)[3] !== 0) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const low = [];
  for (const element of document.querySelectorAll('main *')) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!element.checkVisibility() || !(hasText || element.value)) continue;
    const [lighter, darker] = [luminance(getComputedStyle(element).color), luminance(behind(element))].sort((a, b) => b - a);
    const ratio = (lighter + 0.05) / (darker + 0.05);
    if (ratio < 4.5) low.push(`${element.tagName} ${element.textContent}: ${ratio}`);
  }
  return low;
}
