// Reads paybell's events in a group of its own and ships each order once.
//
// Set by environment variables: REDIS_URL, PREFIX, GROUP, CONSUMER, TAGS, STATE,
// MIN_IDLE_MS, and ONCE=1 to stop when nothing is left.
import { linkSync, mkdirSync, unlinkSync, writeFileSync } from 'node:fs';
import { createClient } from 'redis';

// The tags of 16 partitions; a consumer that reads only some of them owns those.
const ALL_TAGS = '1768 20261 18360 41271 3453 11199 29098 8591 265 45842 13409 17891 46093 3635 2912 48623';

const env = process.env;
const group = env.GROUP ?? 'shipping';
const consumer = env.CONSUMER ?? 'shipping-1'; // stable over restarts
const streams = (env.TAGS ?? ALL_TAGS).split(' ').map((tag) => `${env.PREFIX ?? 'paybell'}:{${tag}}:events`);
const state = env.STATE ?? 'shipments';
const minIdle = Number(env.MIN_IDLE_MS ?? 60000);
const once = env.ONCE === '1';

const client = createClient({ url: env.REDIS_URL ?? 'redis://127.0.0.1:6379/0' });
client.on('error', (err) => console.error('redis:', err.message));

async function createGroups() {
  for (const stream of streams) {
    try {
      // At 0, not at $: from the first event that is still kept.
      await client.xGroupCreate(stream, group, '0', { MKSTREAM: true });
    } catch (err) {
      if (!err.message.startsWith('BUSYGROUP')) throw err;
    }
  }
}

// Applies one event. The effect here is a file named by the event id; linking it
// into place is effect and dedup key in one step. In a service it is an INSERT in
// the same SQL transaction as the rest.
function handle(event) {
  const temporary = `${state}/.${event.event_id}.${process.pid}`;
  writeFileSync(temporary, JSON.stringify(event.payment ?? {}));
  let word = 'applied';
  try {
    linkSync(temporary, `${state}/${event.event_id}`);
  } catch (err) {
    if (err.code !== 'EEXIST') throw err;
    word = 'duplicate';
  }
  unlinkSync(temporary);
  console.log(word, event.event_id, event.type, event.payment?.order_ref ?? '');
}

async function settle(stream, entries) {
  for (const entry of entries) {
    if (entry?.message) { // otherwise it is gone from the stream, and its event lost to us
      if (entry.message.schema !== 'payment-event/1') {
        throw new Error(`unknown schema ${entry.message.schema}: this reader is too old`);
      }
      handle(JSON.parse(entry.message.event));
    }
    // Only now: a crash before this line brings the event again.
    if (entry) await client.xAck(stream, group, entry.id);
  }
}

// Takes over what other consumers left behind for minIdle.
async function reclaim() {
  for (const stream of streams) {
    let cursor = '0-0';
    do {
      const found = await client.xAutoClaim(stream, group, consumer, minIdle, cursor, { COUNT: 100 });
      if (found.messages.length > 0) console.log('reclaimed', found.messages.length);
      await settle(stream, found.messages);
      cursor = found.nextId;
    } while (cursor !== '0-0');
  }
}

// Reads after start: ">" is what nobody was given yet, an id our own pending entries.
async function read(start, options = {}) {
  const found = await client.xReadGroup(
    group, consumer, streams.map((key) => ({ key, id: start })), { COUNT: 100, ...options },
  ) ?? [];
  let count = 0;
  for (const { name, messages } of found) {
    await settle(name, messages);
    count += messages.length;
  }
  return count;
}

mkdirSync(state, { recursive: true });
await client.connect();
await createGroups();
while (await read('0')); // first what we had in hand when we last stopped
for (;;) {
  await reclaim();
  if (!(await read('>', once ? {} : { BLOCK: 2000 })) && once) break;
}
client.destroy();
