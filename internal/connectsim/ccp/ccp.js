// The simulated Contact Control Panel: it shows one agent's contacts in one Region, and answers amazon-connect-streams 2.28.2 as
// Amazon's page does. The names of messages are Streams' own (src/event.js); what is answered to what is in its
// src/global-resiliency.js and, without Global Resiliency, src/core.js.
// @ts-check

const agentId = new URLSearchParams(location.search).get('agent') ?? '';
const GR = 'globalResiliency::';
const POLL = 300; // ms. How late the agent's desktop knows of a shift is the simulator's affair: Config.MoveDelay

/** What the simulator said last; null before and while it is silent. @type {any} */
let state = null;
/** What Streams knows of this page. */
let configured = false; // it has said how it wants to work
let resilient = false; // with Global Resiliency
let active = true; // Streams shows this page
let next = ''; // the Region of a failover that was told
let worksIn = ''; // the active Region that was told
const portId = crypto.randomUUID();
/** @type {object[]} */
const log = [];

const framed = window.parent !== window;
/** An inactive page may send these alone: Streams' Conduit.allowedEvents. @param {string} event */
const allowed = (event) => active || event.startsWith(GR) || ['acknowledge', 'agent::fetch_agent_data_from_ccp', 'log'].includes(event);
/** @param {string} event @param {unknown} [data] */
function tell(event, data) {
  // Amazon's page tells approved origins alone. What is told here is invented.
  if (framed && state?.fault !== 'silent' && allowed(event)) window.parent.postMessage({ event, data }, '*');
}
/** @param {string} text @param {unknown} [object] */
function note(text, object) {
  log.push({ component: 'ccp', level: 'INFO', text: `${state?.region ?? ''} ${text}`, time: new Date(), objects: object === undefined ? [] : [object] });
}

/** Agent data as Streams wants it, times as Dates. */
function agentData() {
  return JSON.parse(JSON.stringify(state.agent), (key, value) => (/timestamp$/i.test(key) ? new Date(value) : value));
}

/** @param {Response} answer */
async function read(answer) {
  const body = answer.headers.get('Content-Type') === 'application/json' ? await answer.json() : { error: `HTTP ${answer.status}` };
  if (!answer.ok) throw new Error(body.error);
  return body;
}

/** @param {string} method @param {object} [params] */
async function call(method, params) {
  const answer = await fetch(`agent?agent=${encodeURIComponent(agentId)}`, {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ method, ...params }),
  });
  const body = await read(answer);
  note(method, params);
  update(body);
}

/** What Streams sends, by the name of the event. @type {Record<string, (data: any) => void>} */
const upstream = {
  synchronize: () => state && tell('acknowledge', { id: portId }),
  outer_context_info: () => {
    configured = true;
    if (!resilient) tell('agent::update', agentData());
  },
  configure: (data) => {
    resilient = data.enableGlobalResiliency === true;
    if (!resilient) return;
    active = data.instanceState === 'active';
    tell(GR + 'init', {
      instanceRegion: state.region, instanceState: state.region === state.activeRegion ? 'active' : 'inactive', activeRegion: state.activeRegion,
    });
  },
  [GR + 'configure_ccp_conduit']: (data) => {
    const was = active;
    active = data.instanceState === 'active';
    if (active !== was) note(`is ${data.instanceState} now`);
    show();
    if (active && configured) tell('agent::update', agentData());
  },
  [GR + 'validate_global_signin']: () => {
    switch (state.fault) {
      case 'signin-missing':
        return tell(GR + 'global_signin_invalid', { errorType: 'LILY_AGENT_CONFIG_MISSING', error: '[GR] Global signin authentication not found' });
      case 'signin-invalid':
        return tell(GR + 'global_signin_invalid', { errorType: 'LILY_AGENT_CONFIG_PARSE_ERROR', error: '[GR] Error validating global signin authentication' });
    }
    tell(GR + 'global_signin_valid', { message: '[GR] Global signin validated successfully' });
  },
  [GR + 'force_failover']: () => {
    if (active && state?.nextActiveRegion) call('forceFailover').catch((e) => note(`forceFailover: ${e}`));
  },
  'agent::fetch_agent_data_from_ccp': () => tell('agent::fetch_agent_data_from_ccp', agentData()),
  // The shared worker gives this to every page of the Region, the sender's included.
  broadcast: ({ event, data }) => (event === 'log' ? log.push(data) : tell(event, data)),
  api_request: ({ requestId, method, params }) => {
    const given = { contactId: params.contactId ?? params.connectionId?.replace(/-(agent|customer)$/, ''), status: params.state?.name };
    call(method, given).then(
      () => tell('api_response', { event: 'api_response', requestId, data: {}, err: null }),
      (e) => tell('api_response', { event: 'api_response', requestId, data: { message: String(e) }, err: String(e) }),
    );
  },
  master_request: ({ requestId, params }) => tell('master_response', {
    event: 'master_response', requestId, data: { topic: params?.topic, isMaster: false, takeOver: false }, err: null,
  }),
  download_log_from_ccp: ({ logName }) => download(`${logName ?? 'agent-log'}.txt`),
};

window.addEventListener('message', ({ source, data }) => {
  if (framed && source === window.parent && state && data && Object.hasOwn(upstream, data.event)) upstream[data.event](data.data ?? {});
});

/** @param {string} name */
function download(name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([JSON.stringify(log, undefined, 4)], { type: 'text/plain' }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

/** What all pages of the Region know at once, as those of Amazon's do by their shared worker. */
const pages = new BroadcastChannel(`ccp:${agentId}`);
pages.onmessage = ({ data }) => update(data, true);

/** Tells Streams what has changed at the simulator. @param {any} to @param {boolean} [told] by another page */
function update(to, told = false) {
  const at = (/** @type {any} */ s) => Date.parse(s.agent.snapshot.snapshotTimestamp);
  if (state && at(to) < at(state)) return; // an answer that was overtaken
  const first = !state;
  /** @param {any} s */
  const facts = (s) => JSON.stringify(s && [s.agent.snapshot.contacts, s.agent.snapshot.state]);
  const changed = facts(state) !== facts(to);
  const moved = state?.activeRegion !== to.activeRegion || state?.nextActiveRegion !== to.nextActiveRegion;
  state = to;
  if ((changed || moved) && !told) pages.postMessage(to);
  if (first) {
    [worksIn, next] = [to.activeRegion, ''];
    tell('acknowledge', { id: portId });
  }
  if (changed && configured) tell('agent::update', agentData()); // the contact is cleared first
  if (resilient && configured) failover();
  show();
}

/** A shift: detected and pending while a contact holds the agent, initiated when Amazon Connect has moved it. */
function failover() {
  const { activeRegion, nextActiveRegion = '' } = state;
  if (nextActiveRegion && nextActiveRegion !== next) {
    note('failover pending', { nextActiveRegion });
    tell(GR + 'failover_detected', { activeRegion: nextActiveRegion });
    tell(GR + 'failover_pending', { activeRegion: nextActiveRegion });
  }
  if (activeRegion !== worksIn) {
    note('failover initiated', { activeRegion });
    if (next !== activeRegion) tell(GR + 'failover_detected', { activeRegion });
    tell(GR + 'failover_initiated', { activeRegion });
  }
  // When a shift is taken back Amazon's page has no message for it.
  [worksIn, next] = [activeRegion, nextActiveRegion];
}

/** @param {string} id @returns {any} */
const $ = (id) => document.getElementById(id);
/** @param {string} method @param {string} contactId @param {string} label @param {string} kind */
function button(method, contactId, label, kind) {
  const b = document.createElement('button');
  b.textContent = label;
  b.className = kind;
  b.onclick = () => call(method, { contactId }).catch((e) => problem(String(e)));
  return b;
}

/** @param {string} text */
function problem(text) {
  $('problem').hidden = !text;
  $('problem').textContent = text;
}

let shown = '';
function show() {
  if (!state) return;
  const works = state.region === state.activeRegion;
  const { snapshot, configuration } = state.agent;
  const now = JSON.stringify([works, snapshot.state.name, snapshot.contacts, state.fault, state.nextActiveRegion]);
  if (now === shown) return; // what has the focus stays
  shown = now;
  document.title = `CCP ${state.region}`;
  $('region').textContent = state.region;
  $('role').textContent = works ? (state.nextActiveRegion ? `active, moves to ${state.nextActiveRegion} after the contacts` : 'active') : 'standby';
  $('agent').hidden = false;
  $('name').textContent = configuration.name;
  $('status').replaceChildren(...configuration.agentStates.map((/** @type {any} */ s) => new Option(s.name, s.name, false, s.name === snapshot.state.name)));
  $('status').disabled = !works;
  $('contacts').replaceChildren(...snapshot.contacts.map((/** @type {any} */ c) => {
    const li = document.createElement('li');
    const text = document.createElement('span');
    const hold = c.connections.some((/** @type {any} */ x) => x.state.type === 'hold');
    text.textContent = `${c.type}, ${{ ended: 'after-contact work' }[/** @type {'ended'} */ (c.state.type)] ?? (hold ? 'on hold' : c.state.type)}`;
    const id = document.createElement('code');
    id.textContent = c.contactId;
    text.append(id);
    li.append(text);
    if (['connecting', 'incoming', 'pending'].includes(c.state.type)) li.append(button('acceptContact', c.contactId, 'Accept', ''));
    else if (c.state.type === 'connected') li.append(button('destroyConnection', c.contactId, 'End', 'end'));
    else li.append(button('clearContact', c.contactId, 'Clear contact', ''));
    return li;
  }));
  $('idle').hidden = snapshot.contacts.length > 0;
}

$('status').onchange = () => call('putAgentState', { status: $('status').value }).catch((e) => problem(String(e)));

async function poll() {
  try {
    const answer = await fetch(`agent?agent=${encodeURIComponent(agentId)}`);
    const body = await read(answer);
    problem('');
    update(body);
  } catch (e) {
    problem(`Amazon Connect (simulated) does not answer: ${e instanceof Error ? e.message : e}`);
  }
  setTimeout(poll, POLL);
}
poll();
