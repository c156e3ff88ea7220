// Takes the picture of the page for the README: `node picture.mjs FILE.png`. With `dark`, `phone` or `error` behind it,
// how the page looks otherwise.

import { launch, start, store, visit } from './support.mjs';

const [file, look] = process.argv.slice(2);
const documents = [
  { name: 'Ada Lovelace', wrote: ['Note G'], languages: ['English', 'French'] },
  { name: 'محمد بن موسى الخوارزمي', wrote: ['الكتاب المختصر في حساب الجبر والمقابلة'], place: { city: 'بغداد', found: true } },
  { name: 'Grace Hopper', rank: 'Rear admiral', compilers: ['A-0', 'FLOW-MATIC'], honoured: { $date: '2016-11-22T00:00:00Z' } },
];

const browser = await launch();
const server = await start();
// Enough for a second page.
await store(server, Array.from({ length: 20 }, (_, n) => ({ n })));
for (const document of documents) await store(server, document);
const viewport = look === 'phone' ? { width: 360, height: 780 } : { width: 1000, height: 960 };
await visit(browser, server, { viewport, colorScheme: look === 'dark' ? 'dark' : 'light' }, async (page) => {
  await page.getByText('ready').waitFor();
  if (look === 'error') {
    await page.getByLabel('New document').fill('{"name": Ada}');
    await page.getByRole('button', { name: 'Store' }).click();
    await page.getByText('line 1').waitFor();
  }
  await page.screenshot({ path: file });
});
await server.stop();
await browser.close();
