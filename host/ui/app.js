// The page as a whole: which view the address names, the login, the bar on top.

import { basic, get, loggedIn, logIn, onLogin } from './api.js';
import { badge, failure, h, put, say } from './dom.js';
import * as store from './store.js';
import { pipelinesView } from './pipelines.js';
import { pipelineView } from './pipeline.js';

const main = document.getElementById('main');
const crumbs = document.getElementById('crumbs');
const who = document.getElementById('who');
const leave = document.getElementById('leave');
const linkShown = document.getElementById('link');

/** Who looks: {name, role, login}. */
let me = null;
let leaves = () => {};

// -------------------------------------------------------------------- route

/** `#/p/orders/commits?before=7` → ['p', 'orders', 'commits'], {before: '7'} */
function address() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  const parts = path.split('/').filter((part) => part !== '').map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { parts, query: Object.fromEntries(new URLSearchParams(query ?? '')) };
}

function trail(parts) {
  const links = [h('a', { href: '#/' }, 'Pipelines')];
  if (parts[0] === 'p') {
    const last = h('a', { href: `#/p/${encodeURIComponent(parts[1])}`, 'aria-current': 'page' }, parts[1]);
    links.push(h('span', { class: 'slash', 'aria-hidden': 'true' }, '/'), last);
  } else {
    links[0].setAttribute('aria-current', 'page');
  }
  put(crumbs, links);
}

let shownPath = null;

function show() {
  if (me === null) return;
  const { parts, query } = address();
  leaves();
  trail(parts);
  const ctx = { query, writes: me.role === 'full', me };
  const path = parts.join('/');
  const moved = shownPath !== null && shownPath !== path;
  shownPath = path;
  if (parts.length === 0) {
    document.title = 'Pipelines – Weir';
    leaves = pipelinesView(main, ctx);
  } else if (parts[0] === 'p' && parts.length <= 3) {
    document.title = `${parts[1]} – Weir`;
    leaves = pipelineView(main, ctx, parts[1], parts[2] ?? 'now');
  } else {
    leaves = () => {};
    put(main, failure({ title: 'No such page', message: `nothing is at ${location.hash}`, remedy: 'begin at Pipelines, above' }));
  }
  if (moved) {
    // Who uses a keyboard or a reader goes on at the new page's begin.
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

// ------------------------------------------------------------------- login

function login(message) {
  store.stop();
  me = null;
  leaves();
  leaves = () => {};
  put(crumbs);
  put(who);
  leave.hidden = true;
  document.title = 'Log in – Weir';
  const name = h('input', { id: 'name', autocomplete: 'username', autocapitalize: 'none', spellcheck: 'false' });
  const secret = h('input', { id: 'secret', type: 'password', autocomplete: 'current-password', required: true });
  const token = h('input', { id: 'token', type: 'checkbox' });
  const label = h('label', { for: 'secret' }, 'Password');
  const field = h('div', { class: 'field' }, h('label', { for: 'name' }, 'Name'), name);
  token.addEventListener('change', () => {
    field.hidden = token.checked;
    label.textContent = token.checked ? 'Token' : 'Password';
  });
  const problem = h('p', { class: 'problem', role: 'alert' }, message);
  const form = h('form', {
    class: 'login',
    onsubmit: async (event) => {
      event.preventDefault();
      logIn(token.checked ? `Bearer ${secret.value.trim()}` : basic(name.value, secret.value));
      try {
        await enter();
      } catch (error) {
        logIn(null);
        say(problem, error.status === 401 ? 'This daemon knows no such name and secret.' : error.message);
        secret.focus();
      }
    },
  },
  h('h1', {}, 'Log in'),
  h('p', { class: 'dim' }, 'With a name of rest.auth.basic or a token of rest.auth.bearer. It is kept until this tab is closed.'),
  field,
  h('div', { class: 'field' }, label, secret),
  h('div', { class: 'check' }, token, h('label', { for: 'token' }, 'I have a token')),
  problem,
  h('button', { class: 'main', type: 'submit' }, 'Log in'));
  put(main, form);
  name.focus();
}

async function enter() {
  me = await get('/whoami', {}, { quiet: true });
  put(who, h('span', { class: 'name' }, me.login ? me.name : ''), me.role === 'read_only' && badge('read only', 'quiet'));
  leave.hidden = !loggedIn();
  store.start();
  shownPath = null;
  show();
}

leave.addEventListener('click', () => {
  logIn(null);
  store.forget();
  begin();
});

onLogin(() => {
  if (me !== null) login('Your login does not hold any more.');
});

// ------------------------------------------------------------------- begin

const words = { live: 'live', asks: 'every 2 s', lost: 'no connection', starts: '…' };
const meaning = {
  live: 'The daemon tells this page what is new.',
  asks: 'Too many pages listen: this one asks every 2 seconds.',
  lost: 'The daemon does not answer; what is shown may be old. It is tried again.',
  starts: '',
};
store.watch(() => {
  if (linkShown.className === `link ${store.link}`) return;
  put(linkShown, h('span', {}, words[store.link]));
  linkShown.className = `link ${store.link}`;
  linkShown.title = meaning[store.link];
});

async function begin() {
  try {
    await enter();
  } catch (error) {
    if (error.status === 401) login('');
    else put(main, failure(error, begin));
  }
}

window.addEventListener('hashchange', show);
document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});
begin();
