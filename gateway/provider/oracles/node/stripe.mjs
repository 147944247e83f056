import Stripe from 'stripe';
import { accepted, answer, bytes } from './answer.mjs';

const { webhooks } = new Stripe('sk_test_unused');

await answer({
  sign({ body, secret, timestamp }) {
    return { header: webhooks.generateTestHeaderString({ payload: bytes(body).toString('utf8'), secret, timestamp }) };
  },
  verify({ body, header, secret }) {
    return accepted(() => webhooks.constructEvent(bytes(body), header, secret));
  },
});
