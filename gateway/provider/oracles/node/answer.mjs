// Reads a JSON array of jobs from standard input, does each with the operation it
// names, and writes the array of results to standard output.
export async function answer(operations) {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  const results = [];
  for (const job of JSON.parse(Buffer.concat(chunks).toString('utf8'))) {
    results.push(await operations[job.op](job));
  }
  process.stdout.write(JSON.stringify(results));
}

// Go writes bytes as base64.
export const bytes = (text) => Buffer.from(text ?? '', 'base64');

// What an SDK says by throwing, as a value.
export async function accepted(check) {
  try {
    await check();
    return { accepted: true };
  } catch (err) {
    return { accepted: false, reason: err.message };
  }
}
