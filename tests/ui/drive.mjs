// Drives the page in a headless Chromium as a person would, and says what it saw: one JSON object on stdout.
//
//   node drive.mjs NODE_MODULES CHROMIUM SCRIPT BASE [ARGUMENT…]
//
// A step that does not come about ends it with 1 and a picture's path on stderr.

import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const [modules, program, script, base, ...more] = process.argv.slice(2);
const require = createRequire(join(modules, 'x.js'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const WIDTHS = [360, 768, 1280];
const PATIENCE = 20_000;

const saw = {};
const browser = await chromium.launch({ executablePath: program, args: FLAGS });
const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: 'light', reducedMotion: 'reduce' });
context.setDefaultTimeout(PATIENCE);
const page = await context.newPage();
/** What a page of ours must not do. */
const faults = [];
page.on('pageerror', (error) => faults.push(`error: ${error.message}`));
page.on('dialog', (dialog) => { faults.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
page.on('console', (message) => {
  // A refusal that the page shows is a line of the console as well.
  if (message.type() === 'error' && !/status of (400|401|404|409|503)/.test(message.text())) faults.push(`console: ${message.text()}`);
});
page.on('request', (request) => {
  if (!request.url().startsWith(base)) faults.push(`asks ${request.url()}`);
});

const go = async (hash, waits) => {
  await page.goto(`${base}/ui/${hash}`);
  await page.locator(waits).first().waitFor();
};
const text = (selector) => page.locator(selector).first().innerText();
const button = (name) => page.getByRole('button', { name, exact: true });

/** Violations in both themes and all widths; the picture of each goes where SHOTS says. */
async function accessible(view) {
  saw.axe ??= {};
  const found = [];
  await page.evaluate(axe);
  for (const theme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme: theme });
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 900 });
      const run = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
      for (const one of run.violations) found.push(`${theme} ${width}: ${one.id} ${one.nodes[0].html.slice(0, 200)}`);
      const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (wider > 0) found.push(`${theme} ${width}: the page is ${wider} px too wide`);
      if (process.env.SHOTS) await page.screenshot({ path: join(process.env.SHOTS, `${view}-${theme}-${width}.png`), fullPage: true });
    }
  }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 1280, height: 900 });
  saw.axe[view] = found;
}

const scripts = {
  async tour() {
    const [name] = more;
    await go('#/', `a[href="#/p/${name}"]`);
    await page.locator('.badge.running').first().waitFor();
    await accessible('pipelines');
    // By keyboard alone: find it, open it.
    await page.locator('#find').focus();
    await page.keyboard.type(name);
    saw.found = await page.locator('table.pipelines tbody tr').count();
    await page.locator(`a[href="#/p/${name}"]`).focus();
    await page.keyboard.press('Enter');
    await page.locator('.chart svg').first().waitFor();
    saw.charts = await page.locator('.chart figcaption .strong').allInnerTexts();
    saw.ledgers = await page.locator('.card h2').allInnerTexts();
    await accessible('now');

    await page.getByRole('link', { name: 'Commits' }).click();
    await page.locator('.badge.k-data').first().waitFor();
    await page.locator('tr:has(.badge.k-data) .open').first().click();
    saw.commit = await text('.more:not([hidden])');
    await accessible('commits');

    await page.getByRole('link', { name: 'Zone' }).click();
    await page.locator('td.n').first().waitFor();
    saw.zone = await page.locator('tbody th').allInnerTexts();
    await accessible('zone');
    await page.locator('tbody th a').first().click();
    await page.locator('.path-trail a[aria-current]').waitFor();

    await page.getByRole('link', { name: 'Config', exact: true }).click();
    await page.getByText('sink.url').waitFor();
    await accessible('config');
  },

  async letters() {
    const [name, wanted] = more;
    await go(`#/p/${name}/letters`, '.letter');
    await page.locator('section tbody th code').first().waitFor();
    saw.codes = await page.locator('section tbody th code').allInnerTexts();
    saw.first = await text('.letter');
    await accessible('letters');
    await page.locator(`a[href$="code=${wanted}"]`).first().click();
    await page.locator('.chosen').first().waitFor();
    await page.locator('.letter').first().waitFor();
    saw.filtered = await page.locator('.letter .reasons li:first-child code').allInnerTexts();
    await page.locator('.bytes button').first().click();
    saw.hex = await text('.bytes pre');
    saw.injected = await page.evaluate(() => ({ ran: globalThis.hacked ?? false, images: document.querySelectorAll('main img, main script').length }));
  },

  async rules() {
    const [name] = more;
    await go(`#/p/${name}/rules`, 'form.swap');
    await button('Check').click();
    saw.nothing = await text('form.swap .problem');
    await page.locator('#reload').check();
    await page.locator('#reason').fill('<img src=x onerror="globalThis.hacked=true"> archive');
    await button('Check').click();
    await button('Put in force').waitFor();
    saw.preview = await text('form.swap .detail');
    saw.before = await page.locator('section:last-of-type .badge.good').count();
    await accessible('rules');
    await button('Put in force').click();
    await page.locator('td', { hasText: 'archive' }).first().waitFor();
    saw.history = await page.locator('main section:last-of-type tbody tr').allInnerTexts();
    await button('Back to 0').click();
    await page.locator('#back-reason').fill('not before Monday');
    await button('Roll back to generation 0').click();
    await page.locator('td', { hasText: 'not before Monday' }).first().waitFor();
    saw.after = await page.locator('main section:last-of-type tbody tr').allInnerTexts();
    saw.injected = await page.evaluate(() => globalThis.hacked ?? false);
  },

  async failed() {
    const [name] = more;
    await go('#/', 'tr.needs');
    saw.listed = await text('tr.needs');
    await go(`#/p/${name}`, '.callout.bad');
    saw.told = await text('.callout.bad');
    await accessible('failed');
    process.stdout.write('READY\n');
    // The cause is taken away meanwhile.
    await new Promise((done) => process.stdin.once('data', done));
    await button('Restart').click();
    await page.locator('.badge.running').first().waitFor();
    await page.locator('.callout.bad').waitFor({ state: 'detached' });
    saw.back = await text('.badge');
    await button('Pause').click();
    await page.locator('.badge.paused').first().waitFor();
    await button('Resume').click();
    await page.locator('.badge.running').first().waitFor();
    process.stdin.pause();
  },

  async paused() {
    const [name] = more;
    await go(`#/p/${name}`, '.callout.warn');
    saw.alarm = await text('.callout.warn');
    saw.share = await page.locator('.tile', { hasText: 'Dead letters' }).innerText();
    await accessible('paused');
    await page.getByRole('link', { name: 'Config', exact: true }).click();
    await page.getByText('errors.max.action').waitFor();
    saw.changes = await page.locator('.scroll[aria-label="Changes"] tbody tr').first().innerText();
  },

  /** Where there are no events it asks, and not while nobody sees the page. */
  async hidden() {
    await page.clock.install();
    let asked = 0;
    let answer = null;
    const held = new Promise((done) => { answer = done; });
    await page.route('**/events', (route) => route.fulfill({ contentType: 'text/event-stream', body: 'event: full\ndata: {}\n\n' }));
    await page.route('**/pipelines?expand=live', async (route) => {
      asked += 1;
      if (asked === 2) await held;
      await route.continue();
    });
    const asks = async (least) => {
      for (let i = 0; asked < least && i < 200; i += 1) await page.clock.runFor(100);
      return asked;
    };
    await go('#/', 'main');
    saw.asks = await asks(2);
    const seen = (hidden) => page.evaluate((to) => {
      Object.defineProperty(document, 'hidden', { value: to, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    }, hidden);
    await seen(true);
    const answered = page.waitForResponse('**/pipelines?expand=live');
    answer();
    await (await answered).finished();
    saw.hidden = await asks(3);
    await seen(false);
    saw.again = (await asks(3)) > 2;
  },

  async login() {
    const [reader, password, writer, token] = more;
    await go('', 'form.login');
    await accessible('login');
    const enter = async (name, secret) => {
      await page.locator('#name').fill(name);
      await page.locator('#secret').fill(secret);
      await button('Log in').click();
    };
    await enter(reader, 'wrong');
    await page.locator('.problem', { hasText: 'no such' }).waitFor();
    await enter(reader, password);
    await page.locator('table.pipelines').waitFor();
    saw.who = await text('#who');
    await page.locator('tbody th a').first().click();
    await page.locator('.tabs').waitFor();
    saw.buttons = await page.locator('.actions button').count();
    await page.getByRole('link', { name: 'Rules' }).click();
    await page.locator('.content section').first().waitFor();
    saw.forms = await page.locator('form').count();
    await page.reload();
    await page.locator('.tabs').waitFor();
    await button('Log out').click();
    await page.locator('form.login').waitFor();
    await page.locator('#token').check();
    await page.locator('#secret').fill(token);
    await button('Log in').click();
    await page.locator('.tabs').waitFor();
    saw.writer = { name: await text('#who'), wanted: writer, buttons: await page.locator('.actions button').count() };
  },

  async many() {
    const count = Number(more[0]);
    const paints = [];
    for (let i = 0; i < 3; i += 1) {
      await page.goto('about:blank');
      await go('#/', `.pipelines tbody tr:nth-child(${count})`);
      paints.push(await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0].startTime));
    }
    saw.paint = Math.min(...paints);
    saw.first = await page.evaluate(() => Number(document.querySelector('table.pipelines').dataset.refresh));
    const refreshes = await page.evaluate(async () => {
      const store = await import('./store.js');
      const table = document.querySelector('table.pipelines');
      const all = [];
      for (let i = 0; i < 9; i += 1) {
        const began = performance.now();
        await store.refresh();
        all.push([performance.now() - began, Number(table.dataset.refresh)]);
      }
      return all;
    });
    const median = (k) => refreshes.map((one) => one[k]).sort((a, b) => a - b)[4];
    saw.asked = median(0);
    saw.drawn = median(1);
    await page.getByRole('button', { name: 'Pipeline', exact: true }).click();
    saw.sorted = await text('.pipelines tbody th a');
    await page.locator('#find').fill('p-007');
    saw.found = await page.locator('.pipelines tbody tr').count();
  },
};

try {
  await scripts[script]();
  saw.faults = faults;
  process.stdout.write(`${JSON.stringify(saw)}\n`);
} catch (error) {
  const shot = join(process.cwd(), `${script}.png`);
  await page.screenshot({ path: shot, fullPage: true }).catch(() => {});
  process.stderr.write(`${script}: ${error.message}\n${JSON.stringify(saw)}\n${faults.join('\n')}\nseen: ${(await page.locator('main').innerText().catch(() => '')).slice(0, 1200)}\npicture: ${shot}\n`);
  process.exitCode = 1;
} finally {
  await browser.close();
}
