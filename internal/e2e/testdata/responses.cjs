// Runs requests of the Responses API with the official openai SDK for Node.js.
// What it reads and prints is what responses.py does.
const fs = require('node:fs')
const { OpenAI, APIError } = require('openai')
const { VERSION } = require('openai/version')

const isTool = (item) => item.type !== 'message' && item.type !== 'reasoning'

function final(out, response) {
  out.status = response.status
  out.reason = response.incomplete_details?.reason ?? null
  out.usage = response.usage?.output_tokens ?? null
  for (const item of response.output) {
    if (item.type === 'message') {
      for (const part of item.content) out.final_text += part.type === 'output_text' ? part.text : part.refusal
    } else if (isTool(item)) {
      out.final_tools.push(item.type)
    }
  }
}

async function watch(out, events) {
  for await (const e of events) {
    if (e.type === 'response.output_text.delta' || e.type === 'response.refusal.delta') {
      out.text += e.delta
    } else if (e.type === 'response.output_item.done' && isTool(e.item)) {
      out.done_tools.push(e.item.type)
    } else if (['response.completed', 'response.incomplete', 'response.failed'].includes(e.type)) {
      final(out, e.response)
      out.last = e.type
    }
  }
}

async function run(c) {
  let tries = 0
  const counted = (...args) => (tries++, fetch(...args))
  const client = new OpenAI({ baseURL: c.base_url, apiKey: 'sk-test', defaultHeaders: c.headers, fetch: counted })
  const out = {
    name: c.name, text: '', final_text: '', status: null, reason: null, usage: null, last: null,
    done_tools: [], final_tools: [], error: null, helper_error: null,
  }
  const ask = { model: 'gpt-4o', input: c.prompt }
  try {
    if (c.mode === 'unary') {
      final(out, await client.responses.create(ask))
    } else if (c.mode === 'create') {
      await watch(out, await client.responses.create({ ...ask, stream: true }))
    } else {
      const stream = client.responses.stream(ask)
      await watch(out, stream)
      try {
        await stream.finalResponse()
      } catch (e) {
        out.helper_error = `${e.constructor.name}: ${e.message}`
      }
    }
  } catch (e) {
    out.error = { type: e.constructor.name, message: e.message }
    if (e instanceof APIError && e.status) out.error = { ...out.error, status: e.status, code: e.code }
  }
  out.tries = tries
  return out
}

async function main() {
  const results = []
  for (const c of JSON.parse(fs.readFileSync(0, 'utf8'))) results.push(await run(c))
  console.log(JSON.stringify({ version: VERSION, results }))
}

main()
