// Node 18 has File, but not as a global; alipay-sdk's HTTP client looks for it there.
import { File } from 'node:buffer';

globalThis.File ??= File;
