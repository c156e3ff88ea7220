// What the tests share: the real server on a port that the system picks, and a Chromium that tells on the page.

import { spawn } from 'node:child_process';
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import assert from 'node:assert/strict';

import { chromium } from 'playwright-core';

const SWITCHES = [
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

// Debian's Chromium, not one that Playwright brings.
function findChromium() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  const directories = process.env.PATH.split(delimiter);
  const found = ['chromium', 'chromium-browser', 'google-chrome']
    .flatMap((name) => directories.map((directory) => join(directory, name)))
    .find(isExecutable);
  if (!found) throw Error('There is no Chromium on PATH; tests/browser.sh installs it, or set CHROMIUM.');
  return found;
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

export function launch() {
  return chromium.launch({ executablePath: findChromium(), chromiumSandbox: false, args: SWITCHES });
}

// Starts the server over a store of its own; `stop` ends it and removes the store.
export async function start(settings = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'two-tier-browser-'));
  const server = spawn(process.env.TWO_TIER, {
    cwd: directory,
    env: { PORT: '0', OPS_PORT: '0', ...settings },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ended = new Promise((resolve) => server.once('exit', resolve));
  const url = await new Promise((resolve, reject) => {
    createInterface(server.stderr).on('line', (line) => {
      const address = /listens on (http:\/\/[^,]+)/.exec(line);
      if (address) resolve(address[1]);
    });
    server.once('error', reject);
    server.once('exit', (code) => reject(Error(`the server ended with ${code}`)));
  });
  const stop = async () => {
    server.kill();
    await ended;
    rmSync(directory, { recursive: true });
  };
  return { url, stop };
}

// Stores documents without the page.
export async function store(server, documents, headers = {}) {
  const answer = await fetch(`${server.url}/data`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', ...headers },
    body: JSON.stringify(documents),
  });
  assert.equal(answer.status, 201, await answer.text());
}

// Runs `test` with a page of its own that is at `/`, and fails if the page did what it may never do.
export async function visit(browser, server, options, test) {
  const context = await browser.newContext({ baseURL: server.url, ...options });
  const page = await context.newPage();
  const misdeeds = [];
  page.on('dialog', (dialog) => {
    misdeeds.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on('pageerror', (error) => misdeeds.push(`error: ${error.stack}`));
  page.on('console', (message) => {
    if (/Content.Security.Policy|violates/i.test(message.text())) misdeeds.push(message.text());
  });
  context.on('request', (request) => {
    const url = request.url();
    if (!/^(data|blob):/.test(url) && !url.startsWith(`${server.url}/`)) misdeeds.push(`request: ${url}`);
  });
  try {
    const answer = await page.goto(`${server.url}/`);
    assert.equal(answer.status(), 200);
    await test(page);
    if (options.javaScriptEnabled !== false) {
      assert.equal(await page.locator('script').count(), 1, 'a script was added');
    }
    assert.deepEqual(misdeeds, []);
  } finally {
    await context.close();
  }
}
