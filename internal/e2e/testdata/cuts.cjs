// Has the official openai SDK for Node.js read streams that were cut. What it reads and prints is
// what cuts.py does.
const fs = require('node:fs');
const { OpenAI } = require('openai');

const weather = {
  name: 'get_weather',
  strict: true,
  parameters: {
    type: 'object',
    properties: { city: { type: 'string' }, days: { type: 'integer' } },
    required: ['city', 'days'],
    additionalProperties: false,
  },
};

function add(out, key, text) {
  if (text) out[key] = (out[key] ?? '') + text;
}

function ended(out, index, reason) {
  if (!reason) return;
  if (index in out.reasons) out.error = 'a choice ends twice';
  out.reasons[index] = reason;
}

function message(out, index, m) {
  add(out.texts, index, m.content);
  add(out.reasoning, index, m.reasoning_content);
  (m.tool_calls ?? []).forEach((t, at) => add(out.tools, `${index}/${t.index ?? at}`, t.function.arguments));
}

async function run(c) {
  const out = { texts: {}, reasoning: {}, tools: {}, reasons: {}, error: '', final_error: '' };
  const client = new OpenAI({ apiKey: 'sk-test', baseURL: c.base_url, maxRetries: 0, defaultHeaders: { 'x-case': String(c.case) } });
  const chat = { model: 'm', messages: [{ role: 'user', content: 'hi' }] };
  if (c.strict) chat.tools = [{ type: 'function', function: weather }];
  try {
    if (c.helper) {
      const completions = client.chat.completions.stream ? client.chat.completions : client.beta.chat.completions;
      const stream = completions.stream(chat);
      for await (const chunk of stream) for (const x of chunk.choices) ended(out, x.index, x.finish_reason);
      try {
        const whole = await stream.finalChatCompletion();
        for (const x of whole.choices) message(out, x.index, x.message);
      } catch (e) {
        out.final_error = `${e.constructor.name}: ${e.message}`;
      }
    } else if (c.kind === 'chat') {
      for await (const chunk of await client.chat.completions.create({ ...chat, stream: true })) {
        for (const x of chunk.choices) {
          message(out, x.index, x.delta);
          ended(out, x.index, x.finish_reason);
        }
      }
    } else {
      for await (const chunk of await client.completions.create({ model: 'm', prompt: 'hi', stream: true })) {
        for (const x of chunk.choices) {
          add(out.texts, x.index, x.text);
          ended(out, x.index, x.finish_reason);
        }
      }
    }
  } catch (e) {
    out.error = `${e.constructor.name}: ${e.message}`;
  }
  return out;
}

async function main() {
  const results = [];
  for (const c of JSON.parse(fs.readFileSync(0, 'utf8'))) results.push(await run(c));
  console.log(JSON.stringify(results));
}

main();
