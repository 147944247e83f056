// Posts signed callbacks to a running gateway at an arrival rate. Callback i of a run
// pays order n "<RUN>-<n>"; callback() below says which, and ../loadtest/expect.go says
// the same. What was not accepted is logged, one JSON line each, so that the effects can
// be counted to the last one.
//
// Scenarios (SCENARIO [steady]):
//   steady   RATE; half Stripe, half Standard Webhooks, every tenth a redelivery
//   soak     the same for long: give it a DURATION
//   ramp     ten steps from RATE to ten times RATE, and which was the last that held
//   burst    RATE, then ten times RATE for a sixth of DURATION, then RATE
//   storm    duplicates: ten deliveries of each event, one upon the other
//   mix      a quarter each of Stripe, Standard Webhooks, Alipay and WeChat Pay
//   forged   nine in ten are signed with another key, and must be refused
//
// Environment (defaults in brackets):
//   TARGET            gateway [http://127.0.0.1:8080]
//   RATE, DURATION    callbacks a second [200], how long [10s]
//   RUN               begins every order and event id [load]
//   VUS               senders kept ready [half of the highest rate, at least 100: replies
//                     may take half a second]
//   STRIPE_ACCOUNT, STRIPE_SECRET            account and whsec_… of the Stripe half
//   STANDARD_ACCOUNT, STANDARD_SECRET        the same for Standard Webhooks; without a
//                                            secret its half is sent as Stripe too
//   ALIPAY_ACCOUNT, WECHAT_ACCOUNT           accounts of the scenario mix
//   RSA_KEY, APIV3_KEY                       their private key (PKCS #8, base64) and
//                                            WeChat Pay's APIv3 key
//   SUMMARY           file for the figures as JSON [none]
import crypto from 'k6/crypto';
import encoding from 'k6/encoding';
import exec from 'k6/execution';
import http from 'k6/http';
import { check } from 'k6';
import { Counter, Rate } from 'k6/metrics';

const env = __ENV;
const target = env.TARGET || 'http://127.0.0.1:8080';
const rate = Number(env.RATE || 200);
const seconds = inSeconds(env.DURATION || '10s');
const scenario = env.SCENARIO || 'steady';
const run = env.RUN || 'load';
// The highest rate of a ramp is meant to be too much; a burst's has to be sent.
const most = scenario === 'ramp' || scenario === 'burst' ? 10 * rate : rate;
const vus = Number(env.VUS || Math.max(100, Math.ceil(most / 2)));
const steps = 10;
const stripe = { account: env.STRIPE_ACCOUNT || 'stripe-load', secret: env.STRIPE_SECRET };
const standard = { account: env.STANDARD_ACCOUNT || 'standard-load', secret: env.STANDARD_SECRET };
if (!stripe.secret) throw new Error('STRIPE_SECRET is not set');

// The key of Standard Webhooks is what follows whsec_, in base64.
const standardKey = standard.secret && encoding.b64decode(standard.secret.replace(/^whsec_/, ''), 'std');

const accepted = new Rate('accepted');
const redeliveries = new Counter('redeliveries');
const forgeries = new Counter('forgeries');

// inSeconds reads a duration as Go writes it.
function inSeconds(text) {
  let sum = 0;
  for (const [, n, unit] of text.matchAll(/([0-9.]+)(ms|h|m|s)/g)) sum += Number(n) * { ms: 0.001, s: 1, m: 60, h: 3600 }[unit];
  if (!(sum > 0)) throw new Error(`DURATION ${text}`);
  return sum;
}

// stages are the scenario's rates and how many seconds each holds.
function stages() {
  if (scenario === 'ramp') return Array.from({ length: steps }, (_, k) => [rate * (k + 1), seconds / steps]);
  if (scenario === 'burst') return [[rate, seconds / 3], [10 * rate, seconds / 6], [rate, seconds / 2]];
  if (['steady', 'soak', 'storm', 'mix', 'forged'].includes(scenario)) return [[rate, seconds]];
  throw new Error(`SCENARIO ${scenario}`);
}

const thresholds = { checks: ['rate==1'] };
if (scenario === 'ramp') {
  // A threshold is what makes k6 keep the figures of a tag; these always hold.
  for (let k = 0; k < steps; k++) {
    thresholds[`http_req_duration{step:${k}}`] = ['p(99)>=0'];
    thresholds[`accepted{step:${k}}`] = ['rate>=0'];
  }
} else {
  thresholds.dropped_iterations = ['count==0'];
  thresholds.accepted = ['rate>=0.99'];
}
if (scenario === 'forged') {
  thresholds['http_req_duration{kind:forged}'] = ['p(99)>=0'];
  thresholds['http_req_duration{kind:true}'] = ['p(99)>=0'];
}

export const options = {
  scenarios: {
    callbacks: {
      executor: 'ramping-arrival-rate',
      startRate: stages()[0][0],
      timeUnit: '1s',
      // A stage of no length jumps to its rate; the next one holds it.
      stages: stages().flatMap(([target, held]) => [
        { target, duration: '0s' },
        { target, duration: `${Math.round(held * 1000)}ms` },
      ]),
      preAllocatedVUs: vus,
      maxVUs: vus * 2,
      gracefulStop: '30s',
    },
  },
  thresholds,
  summaryTrendStats: ['med', 'p(95)', 'p(99)', 'max'],
};

// Order n costs (1 + n mod 100).50 dollars, so that a sum tells orders apart.
export const cents = (n) => (1 + (n % 100)) * 100 + 50;

function asStripe(n, now) {
  const body = JSON.stringify({
    id: `evt_${run}_${n}`,
    object: 'event',
    api_version: '2025-06-30.basil',
    created: now,
    livemode: false,
    pending_webhooks: 1,
    request: { id: null, idempotency_key: null },
    type: 'payment_intent.succeeded',
    data: {
      object: {
        id: `pi_${run}_${n}`,
        object: 'payment_intent',
        amount: cents(n),
        amount_received: cents(n),
        currency: 'usd',
        status: 'succeeded',
        livemode: false,
        created: now,
        description: 'Order '.padEnd(400, '.'),
        latest_charge: `ch_${run}_${n}`,
        payment_method_types: ['card'],
        metadata: { order_id: `${run}-${n}`, customer_id: `${run}-customer-${n % 1000}` },
      },
    },
  });
  const mac = crypto.hmac('sha256', stripe.secret, `${now}.${body}`, 'hex');
  return {
    account: stripe.account,
    body,
    headers: { 'Content-Type': 'application/json; charset=utf-8', 'Stripe-Signature': `t=${now},v1=${mac}` },
  };
}

function asStandard(n, now) {
  const id = `msg_${run}_${n}`;
  const body = JSON.stringify({
    type: 'order.paid',
    timestamp: new Date(now * 1000).toISOString(),
    data: {
      order: `${run}-${n}`,
      payment: `pay_${run}_${n}`,
      customer: `${run}-customer-${n % 1000}`,
      amount: cents(n),
      currency: 'USD',
    },
  });
  const mac = crypto.hmac('sha256', standardKey, `${id}.${now}.${body}`, 'base64');
  return {
    account: standard.account,
    body,
    headers: {
      'Content-Type': 'application/json',
      'webhook-id': id,
      'webhook-timestamp': String(now),
      'webhook-signature': `v1,${mac}`,
    },
  };
}

const bytes = (text) => Uint8Array.from(text.split(''), (c) => c.charCodeAt(0));
const china = (now) => new Date((now + 8 * 3600) * 1000).toISOString().slice(0, 19);

// The keys of Alipay and WeChat Pay are read once by each sender.
let rsaKey;
let apiKey;

async function signRSA(text) {
  if (!rsaKey) {
    const form = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
    rsaKey = await globalThis.crypto.subtle.importKey('pkcs8', encoding.b64decode(env.RSA_KEY, 'std'), form, false, ['sign']);
  }
  return encoding.b64encode(await globalThis.crypto.subtle.sign('RSASSA-PKCS1-v1_5', rsaKey, bytes(text).buffer), 'std');
}

async function asAlipay(n, now) {
  const at = china(now).replace('T', ' ');
  const amount = (cents(n) / 100).toFixed(2);
  const form = {
    app_id: '2021000000000042',
    charset: 'utf-8',
    gmt_create: at,
    gmt_payment: at,
    notify_id: `${run}-notice-${n}`,
    notify_time: at,
    notify_type: 'trade_status_sync',
    out_trade_no: `${run}-${n}`,
    passback_params: `${run}-customer-${n % 1000}`,
    receipt_amount: amount,
    seller_id: '2088000000000042',
    subject: 'Order',
    total_amount: amount,
    trade_no: `trade-${run}-${n}`,
    trade_status: 'TRADE_SUCCESS',
    version: '1.0',
  };
  const names = Object.keys(form).sort();
  form.sign = await signRSA(names.map((name) => `${name}=${form[name]}`).join('&'));
  form.sign_type = 'RSA2';
  return {
    account: env.ALIPAY_ACCOUNT || 'alipay-load',
    body: Object.keys(form).map((name) => `${name}=${encodeURIComponent(form[name])}`).join('&'),
    headers: { 'Content-Type': 'application/x-www-form-urlencoded; charset=utf-8' },
  };
}

async function asWeChat(n, now) {
  if (!apiKey) apiKey = await globalThis.crypto.subtle.importKey('raw', bytes(env.APIV3_KEY).buffer, { name: 'AES-GCM' }, false, ['encrypt']);
  const at = `${china(now)}+08:00`;
  const nonce = String(n).padStart(12, '0');
  const plain = JSON.stringify({
    mchid: '1900000042',
    appid: 'wx0000000000000042',
    out_trade_no: `${run}-${n}`,
    transaction_id: `transaction-${run}-${n}`,
    trade_type: 'JSAPI',
    trade_state: 'SUCCESS',
    attach: `${run}-customer-${n % 1000}`,
    success_time: at,
    amount: { total: cents(n), payer_total: cents(n), currency: 'CNY', payer_currency: 'CNY' },
  });
  const sealed = await globalThis.crypto.subtle.encrypt(
    { name: 'AES-GCM', iv: bytes(nonce).buffer, additionalData: bytes('transaction').buffer }, apiKey, bytes(plain).buffer);
  const body = JSON.stringify({
    id: `${run}-notice-${n}`,
    create_time: at,
    resource_type: 'encrypt-resource',
    event_type: 'TRANSACTION.SUCCESS',
    summary: 'paid',
    resource: {
      original_type: 'transaction',
      algorithm: 'AEAD_AES_256_GCM',
      ciphertext: encoding.b64encode(sealed, 'std'),
      associated_data: 'transaction',
      nonce,
    },
  });
  return {
    account: env.WECHAT_ACCOUNT || 'wechat-load',
    body,
    headers: {
      'Content-Type': 'application/json',
      'Wechatpay-Timestamp': String(now),
      'Wechatpay-Nonce': nonce,
      'Wechatpay-Serial': 'PUB_KEY_ID_0119000000422026',
      'Wechatpay-Signature-Type': 'WECHATPAY2-SHA256-RSA2048',
      'Wechatpay-Signature': await signRSA(`${now}\n${nonce}\n${body}\n`),
    },
  };
}

// callback says what callback i is: order n, whether it was sent before, and whether
// it is forged.
function callback(i) {
  if (scenario === 'storm') return { n: i - (i % 10), again: i % 10 > 0, forged: false };
  if (scenario === 'forged') return { n: i, again: false, forged: i % 10 > 0 };
  // A redelivery says what the one before said, signed anew.
  return i % 10 === 9 ? { n: i - 1, again: true, forged: false } : { n: i, again: false, forged: false };
}

function sign(n, now) {
  if (scenario === 'mix' && n % 4 === 2) return asAlipay(n, now);
  if (scenario === 'mix' && n % 4 === 3) return asWeChat(n, now);
  return standardKey && n % 2 === 1 ? asStandard(n, now) : asStripe(n, now);
}

export default async function () {
  const i = exec.scenario.iterationInTest;
  const { n, again, forged } = callback(i);
  if (again) redeliveries.add(1);
  const signed = await sign(n, Math.floor(Date.now() / 1000));
  if (forged) {
    forgeries.add(1);
    for (const name of ['Stripe-Signature', 'webhook-signature']) {
      const good = signed.headers[name];
      // Another first digit of the MAC.
      if (good) signed.headers[name] = good.replace(/(v1[=,])(.)/, (_, v, c) => v + (c === '0' ? '1' : '0'));
    }
  }

  const tags = { name: signed.account, kind: forged ? 'forged' : 'true' };
  if (scenario === 'ramp') tags.step = String(Math.min(steps - 1, Math.floor(exec.scenario.progress * steps)));
  const reply = http.post(`${target}/callbacks/${signed.account}`, signed.body, { headers: signed.headers, timeout: '20s', tags });
  if (forged) {
    check(reply, { 'a forgery is refused': (r) => r.status >= 400 && r.status < 500 });
    return;
  }
  const ok = reply.status >= 200 && reply.status < 300;
  accepted.add(ok, tags);
  // Whatever is not accepted must ask to be sent again.
  check(reply, {
    'accepted, or asked to come again': (r) => ok || ((r.status === 503 || r.status === 500 || r.status === 429) && !!r.headers['Retry-After']),
  });
  if (!ok) console.log(JSON.stringify({ callback: i, status: reply.status, error: reply.error }));
}

export function handleSummary(data) {
  const value = (metric, field) => (data.metrics[metric] ? data.metrics[metric].values[field] || 0 : 0);
  const failed = [];
  for (const [name, metric] of Object.entries(data.metrics)) {
    for (const [rule, result] of Object.entries(metric.thresholds || {})) {
      if (!result.ok) failed.push(`${name} ${rule}`);
    }
  }
  // The last step of a ramp at which replies were in time, all before it too.
  let held = 0;
  const inTime = (k) => value(`accepted{step:${k}}`, 'rate') >= 0.99 && value(`http_req_duration{step:${k}}`, 'p(99)') < 1000;
  while (scenario === 'ramp' && held < steps && inTime(held)) held++;
  const summary = {
    sent: value('http_reqs', 'count'),
    forged: value('forgeries', 'count'),
    held: held * rate,
    refused_p50_ms: value('http_req_duration{kind:forged}', 'med'),
    true_p50_ms: value('http_req_duration{kind:true}', 'med'),
    accepted: value('accepted', 'passes'),
    redeliveries: value('redeliveries', 'count'),
    dropped: value('dropped_iterations', 'count'),
    checks_failed: value('checks', 'fails'),
    p50_ms: value('http_req_duration', 'med'),
    p95_ms: value('http_req_duration', 'p(95)'),
    p99_ms: value('http_req_duration', 'p(99)'),
    max_ms: value('http_req_duration', 'max'),
    failed,
  };
  const text = JSON.stringify(summary, null, 2) + '\n';
  return env.SUMMARY ? { [env.SUMMARY]: text } : { stdout: text };
}
