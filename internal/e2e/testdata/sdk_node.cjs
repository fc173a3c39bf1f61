// Runs requests with one of the official SDKs for Node.js, openai or @anthropic-ai/sdk, which
// is named in the first argument.
//
// Reads a JSON list of cases from standard input: {"name", "base_url", "headers", "stream",
// "helper", "usage", "prompt", "max_tokens"}. Prints a JSON list of what the SDK made of the answers.
// With "helper", a stream is read by the SDK's own accumulator, messages.stream().

const sdk = process.argv[2];
const SDK = require(sdk).default;
// The packages export no package.json.
const { VERSION } = require(sdk + '/version');

async function chat(client, c, out) {
  const answer = await client.chat.completions.create({
    model: 'gpt-4o',
    messages: [{ role: 'user', content: c.prompt }],
    stream: c.stream,
    ...(c.usage ? { stream_options: { include_usage: true } } : {}),
  });
  if (!c.stream) {
    out.text = answer.choices[0].message.content;
    out.finish_reason = answer.choices[0].finish_reason;
    out.usage = answer.usage.completion_tokens;
    return;
  }
  for await (const chunk of answer) {
    for (const choice of chunk.choices) {
      out.text += choice.delta.content ?? '';
      out.finish_reason = choice.finish_reason ?? out.finish_reason;
    }
    if (chunk.usage) out.usage = chunk.usage.completion_tokens;
  }
}

function collect(out, message) {
  for (const block of message.content) {
    if (block.type === 'text') out.text += block.text;
    if (block.type === 'thinking') out.thinking += block.thinking;
  }
  out.finish_reason = message.stop_reason;
  out.usage = message.usage.output_tokens;
}

async function messages(client, c, out) {
  const request = {
    model: 'claude-sonnet-4-5',
    max_tokens: c.max_tokens || 1024,
    messages: [{ role: 'user', content: c.prompt }],
  };
  if (c.helper) {
    const stream = client.messages.stream(request);
    stream.on('streamEvent', (event) => {
      if (event.type === 'content_block_delta') out.tool += event.delta.partial_json ?? '';
    });
    return collect(out, await stream.finalMessage());
  }
  if (!c.stream) return collect(out, await client.messages.create(request));
  for await (const event of await client.messages.create({ ...request, stream: true })) {
    if (event.type === 'content_block_delta') {
      out.text += event.delta.text ?? '';
      out.thinking += event.delta.thinking ?? '';
      out.tool += event.delta.partial_json ?? '';
    } else if (event.type === 'message_delta') {
      out.finish_reason = event.delta.stop_reason;
      out.usage = event.usage.output_tokens;
    }
  }
}

async function run(c) {
  const out = { name: c.name, text: '', thinking: '', tool: '', finish_reason: null, usage: null, tries: 0, error: null };
  const client = new SDK({
    baseURL: c.base_url,
    apiKey: 'sk-ant-secret',
    defaultHeaders: c.headers,
    // Every attempt of the SDK goes through here, retries included.
    fetch: (...a) => (out.tries++, fetch(...a)),
  });
  try {
    await (sdk === 'openai' ? chat : messages)(client, c, out);
  } catch (e) {
    out.error = { type: e.constructor.name, status: e.status ?? 0, code: e.code ?? e.error?.error?.type ?? '', message: String(e.message) };
  }
  return out;
}

async function main() {
  let input = '';
  for await (const chunk of process.stdin) input += chunk;
  const results = [];
  for (const c of JSON.parse(input)) results.push(await run(c));
  console.log(JSON.stringify({ version: VERSION, results }));
}

main();
