import { randomBytes } from 'node:crypto';
import { Aes, Formatter, Rsa } from 'wechatpay-axios-plugin';
import { accepted, answer, bytes } from './answer.mjs';

await answer({
  // Makes a callback as WeChat Pay does: encrypted, then signed.
  sign({ event_type, plain, associated, apiv3_key, private_key, id }) {
    const nonce = Formatter.nonce(12);
    const body = JSON.stringify({
      id,
      create_time: new Date().toISOString(),
      resource_type: 'encrypt-resource',
      event_type,
      summary: '支付成功',
      resource: {
        original_type: associated,
        algorithm: 'AEAD_AES_256_GCM',
        ciphertext: Aes.AesGcm.encrypt(JSON.stringify(plain), apiv3_key, nonce, associated),
        associated_data: associated,
        nonce,
      },
    });
    const timestamp = String(Formatter.timestamp());
    const headerNonce = randomBytes(16).toString('hex');
    const signature = Rsa.sign(Formatter.joinedByLineFeed(timestamp, headerNonce, body), private_key);
    return { body: Buffer.from(body).toString('base64'), timestamp, nonce: headerNonce, signature };
  },
  // Asks the SDK whether it believes a callback, and what it reads in it.
  verify({ body, timestamp, nonce, signature, public_key, apiv3_key }) {
    const text = bytes(body).toString('utf8');
    let plain = null;
    return accepted(() => {
      if (!Rsa.verify(Formatter.joinedByLineFeed(timestamp, nonce, text), signature, Rsa.from(public_key, Rsa.KEY_TYPE_PUBLIC))) {
        throw new Error('signature');
      }
      const { ciphertext, nonce: iv, associated_data } = JSON.parse(text).resource;
      plain = JSON.parse(Aes.AesGcm.decrypt(ciphertext, apiv3_key, iv, associated_data));
    }).then((result) => ({ ...result, plain }));
  },
});
