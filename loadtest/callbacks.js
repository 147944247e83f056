// Posts signed callbacks to a running gateway at a constant arrival rate: half as
// Stripe, half as Standard Webhooks, every tenth one a redelivery of the one before.
// Order n of a run is "<RUN>-<n>"; what was not accepted is logged, one JSON line
// each, so that the effects can be counted to the last one.
//
// Environment (defaults in brackets):
//   TARGET            gateway [http://127.0.0.1:8080]
//   RATE, DURATION    callbacks a second [200], how long [10s]
//   RUN               begins every order and event id [load]
//   VUS               senders kept ready [half of RATE, at least 100: replies may take half a second]
//   STRIPE_ACCOUNT, STRIPE_SECRET            account and whsec_… of the Stripe half
//   STANDARD_ACCOUNT, STANDARD_SECRET        the same for Standard Webhooks; without a
//                                            secret its half is sent as Stripe too
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
const run = env.RUN || 'load';
const vus = Number(env.VUS || Math.max(100, Math.ceil(rate / 2)));
const stripe = { account: env.STRIPE_ACCOUNT || 'stripe-load', secret: env.STRIPE_SECRET };
const standard = { account: env.STANDARD_ACCOUNT || 'standard-load', secret: env.STANDARD_SECRET };
if (!stripe.secret) throw new Error('STRIPE_SECRET is not set');

// The key of Standard Webhooks is what follows whsec_, in base64.
const standardKey = standard.secret && encoding.b64decode(standard.secret.replace(/^whsec_/, ''), 'std');

const accepted = new Rate('accepted');
const redeliveries = new Counter('redeliveries');

export const options = {
  scenarios: {
    callbacks: {
      executor: 'constant-arrival-rate',
      rate,
      timeUnit: '1s',
      duration: env.DURATION || '10s',
      preAllocatedVUs: vus,
      maxVUs: vus * 2,
      gracefulStop: '30s',
    },
  },
  thresholds: {
    dropped_iterations: ['count==0'],
    checks: ['rate==1'],
    accepted: ['rate>=0.99'],
  },
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

export default function () {
  const i = exec.scenario.iterationInTest;
  const again = i % 10 === 9;
  // A redelivery says what the one before said, signed anew.
  const n = again ? i - 1 : i;
  if (again) redeliveries.add(1);
  const now = Math.floor(Date.now() / 1000);
  const callback = standardKey && n % 2 === 1 ? asStandard(n, now) : asStripe(n, now);

  const reply = http.post(`${target}/callbacks/${callback.account}`, callback.body, {
    headers: callback.headers,
    timeout: '20s',
    tags: { name: callback.account },
  });
  const ok = reply.status >= 200 && reply.status < 300;
  accepted.add(ok);
  // Whatever is not accepted must ask to be sent again.
  check(reply, {
    'accepted, or asked to come again': (r) => ok || ((r.status === 503 || r.status === 500 || r.status === 429) && !!r.headers['Retry-After']),
  });
  if (!ok) console.log(JSON.stringify({ order: n, again, status: reply.status, error: reply.error }));
}

export function handleSummary(data) {
  const value = (metric, field) => (data.metrics[metric] ? data.metrics[metric].values[field] || 0 : 0);
  const failed = [];
  for (const [name, metric] of Object.entries(data.metrics)) {
    for (const [rule, result] of Object.entries(metric.thresholds || {})) {
      if (!result.ok) failed.push(`${name} ${rule}`);
    }
  }
  const summary = {
    sent: value('http_reqs', 'count'),
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
