// Runs requests with one of the official SDKs for Node.js, openai or @anthropic-ai/sdk, which
// is named in the first argument.
//
// Reads a JSON list of cases from standard input: {"name", "api", "azure", "base_url", "headers",
// "stream", "helper", "usage", "prompt", "max_tokens"}. The api is chat, completions, embeddings,
// responses or messages; with "azure" the SDK's client class for Azure asks; with "helper" a stream
// is read by the SDK's own accumulator. Prints a JSON list of what the SDK made of the answers;
// helper_error is what the accumulator raises when it is asked for the whole answer.

const sdk = process.argv[2];
const SDK = require(sdk);
// The packages export no package.json.
const { VERSION } = require(sdk + '/version');

function choice(out, index, text, reason) {
  if (index !== 0) return;
  out.text += text ?? '';
  out.finish_reason = reason ?? out.finish_reason;
}

function whole(out, completion) {
  for (const c of completion.choices) choice(out, c.index, c.message ? c.message.content : c.text, c.finish_reason);
  out.usage = completion.usage?.completion_tokens ?? null;
}

async function completions(resource, ask, c, out) {
  if (!c.stream) return whole(out, await resource.create(ask));
  if (c.usage) ask.stream_options = { include_usage: true };
  for await (const chunk of await resource.create({ ...ask, stream: true })) {
    for (const x of chunk.choices) choice(out, x.index, x.delta ? x.delta.content : x.text, x.finish_reason);
    if (chunk.usage) out.usage = chunk.usage.completion_tokens;
  }
}

async function chat(client, c, out) {
  const ask = { model: 'gpt-4o', messages: [{ role: 'user', content: c.prompt }] };
  if (!c.helper) return completions(client.chat.completions, ask, c, out);
  const resource = client.chat.completions.stream ? client.chat.completions : client.beta.chat.completions;
  const stream = resource.stream(ask);
  stream.on('content', (delta) => (out.text += delta));
  try {
    out.finish_reason = (await stream.finalChatCompletion()).choices[0].finish_reason;
  } catch (e) {
    out.helper_error = e.constructor.name;
  }
}

async function completion(client, c, out) {
  await completions(client.completions, { model: 'gpt-3.5-turbo-instruct', prompt: c.prompt, max_tokens: c.max_tokens }, c, out);
}

function final(out, response) {
  const incomplete = response.incomplete_details;
  out.finish_reason = response.status + (incomplete ? ': ' + incomplete.reason : '');
  out.usage = response.usage.output_tokens;
}

async function watch(out, events) {
  for await (const e of events) {
    if (e.type === 'response.output_text.delta') out.text += e.delta;
    if (['response.completed', 'response.incomplete', 'response.failed'].includes(e.type)) final(out, e.response);
  }
}

async function responses(client, c, out) {
  const ask = { model: 'gpt-4o', input: c.prompt };
  if (c.helper) {
    const stream = client.responses.stream(ask);
    await watch(out, stream);
    try {
      await stream.finalResponse();
    } catch (e) {
      out.helper_error = e.constructor.name;
    }
  } else if (c.stream) {
    await watch(out, await client.responses.create({ ...ask, stream: true }));
  } else {
    const answer = await client.responses.create(ask);
    out.text = answer.output_text;
    final(out, answer);
  }
}

async function embeddings(client, c, out) {
  const answer = await client.embeddings.create({ model: 'text-embedding-3-small', input: c.prompt });
  out.finish_reason = `${answer.data.length} × ${answer.data[0].embedding.length}`;
  out.usage = answer.usage.prompt_tokens;
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

const asks = { chat, completions: completion, embeddings, responses, messages };

async function run(c) {
  const out = { name: c.name, text: '', thinking: '', tool: '', finish_reason: null, usage: null, tries: 0, error: null, helper_error: '' };
  const options = {
    apiKey: 'sk-ant-secret',
    defaultHeaders: c.headers,
    // Every attempt of the SDK goes through here, retries included.
    fetch: (...a) => (out.tries++, fetch(...a)),
  };
  try {
    let client;
    if (c.azure) client = new SDK.AzureOpenAI({ ...options, endpoint: c.base_url, apiVersion: '2024-10-21' });
    else client = new SDK.default({ ...options, baseURL: c.base_url + (sdk === 'openai' ? '/v1' : '') });
    await asks[c.api](client, c, out);
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
