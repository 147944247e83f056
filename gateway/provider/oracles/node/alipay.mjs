import './node18.mjs'; // before the SDK
import { AlipaySdk } from 'alipay-sdk';
// The signer and the certificate functions are not exported; they are the SDK's all the same.
import { signatureV3 } from '../node_modules/alipay-sdk/dist/esm/util.js';
import { getSN, loadPublicKey } from '../node_modules/alipay-sdk/dist/esm/antcertutil.js';
import { answer, bytes } from './answer.mjs';

const content = (params) =>
  Object.keys(params).sort().map((name) => `${name}=${params[name]}`).join('&');

await answer({
  // Signs parameters as Alipay does and encodes them as a form.
  sign({ params, private_key, with_sign_type }) {
    const { sign_type, ...rest } = params;
    const sign = signatureV3(content(with_sign_type ? params : rest), private_key);
    return { body: Buffer.from(new URLSearchParams({ ...params, sign }).toString()).toString('base64') };
  },
  // Asks the SDK whether it believes a form.
  verify({ body, public_key, certificate }) {
    const sdk = new AlipaySdk({
      appId: '1',
      privateKey: 'unused',
      alipayPublicKey: certificate ? loadPublicKey(certificate) : public_key,
    });
    const params = Object.fromEntries(new URLSearchParams(bytes(body).toString('utf8')));
    return { accepted: sdk.checkNotifySignV2(params) };
  },
  // The name the SDK gives a certificate.
  sn({ certificate }) {
    return { sn: getSN(certificate) };
  },
});
