import { Webhook } from 'standardwebhooks';
import { accepted, answer, bytes } from './answer.mjs';

await answer({
  sign({ id, timestamp, body, secret }) {
    return { signature: new Webhook(secret).sign(id, new Date(timestamp * 1000), bytes(body).toString('utf8')) };
  },
  verify({ headers, body, secret }) {
    return accepted(() => new Webhook(secret).verify(bytes(body).toString('utf8'), headers));
  },
});
