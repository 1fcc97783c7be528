// The openai package's responses: everything it makes of the server's answers, as one JSON object.
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { cancels } from "./cancelled.js";

const { baseURL, randomURL, thinkingURL, apiKey, model, story } = JSON.parse(process.argv[2]);
const responsesOf = (key, url = baseURL) => new OpenAI({ baseURL: url, apiKey: key, maxRetries: 0 }).responses;
const responses = responsesOf(apiKey);
const Person = z.object({ name: z.string().max(20), age: z.number().int().min(0).max(150) });
const Weather = z.object({ city: z.string(), days: z.number().int() });
const weather = ({ city, days }) => `${city}, ${days} days: ${city === "Oslo" ? 21 : 25}`;
const told = {};

const plain = await responses.create({ model, input: story.hello });
told.plain = [plain.output_text, plain.status];
told.usage = plain.usage.output_tokens;

const events = [];
for await (const event of await responses.create({ model, input: story.hello, stream: true })) events.push(event);
told.stream = events.map((event) => (event.type === "response.output_text.delta" ? event.delta : "")).join("");

const resumed = [];
const again = await responses.retrieve(events[0].response.id, { stream: true, starting_after: 2 });
for await (const event of again) resumed.push(event);
told.resumed = JSON.stringify(resumed) === JSON.stringify(events.slice(3));

const tools = [{ type: "function", name: "get_weather", parameters: z.toJSONSchema(Weather), strict: true }];
const resultsOf = (response) =>
  response.output.map((call) => ({
    type: "function_call_output",
    call_id: call.call_id,
    output: weather(JSON.parse(call.arguments)),
  }));
const asked = await responses.stream({ model, input: story.cities, tools }).finalResponse();
told.calls = asked.output.map((call) => JSON.parse(call.arguments));
const question = { role: "user", content: story.cities };
const history = [question, ...asked.output, ...resultsOf(asked)];
told.report = (await responses.create({ model, input: history, tools, store: false })).output_text;
told.run = (
  await responses.create({ model, input: resultsOf(asked), previous_response_id: asked.id, tools })
).output_text;

const one = await responses.create({ model, input: story.weather, tools });
told.continued = (
  await responses.create({ model, input: resultsOf(one), previous_response_id: one.id, tools })
).output_text;

const text = { format: zodTextFormat(Person, "person") };
told.parsed = (await responses.parse({ model, input: story.person, text })).output_parsed;

const random = responsesOf(apiKey, randomURL);
const hot = { model: "random", input: story.hello, temperature: 1.5, max_output_tokens: 1000, seed: 1 };
told.constrained = (await random.parse({ ...hot, text })).output_parsed;

const thinking = responsesOf(apiKey, thinkingURL);
const thought = await thinking.stream({ model, input: story.hello }).finalResponse();
told.thinking = [thought.output[0].content[0].text, thought.output_text];
const more = await thinking.create({ model, input: story.hello, previous_response_id: thought.id });
told.continued_thinking = more.output_text;

told.cancelled = await cancels(randomURL, async () => {
  const endless = await random.create({ ...hot, max_output_tokens: 3000, ignore_eos: true, stream: true });
  await endless[Symbol.asyncIterator]().next();
  endless.controller.abort();
});
const begun = await random.create({ ...hot, max_output_tokens: 3000, ignore_eos: true, background: true });
told.stopped = (await random.cancel(begun.id)).status;

const errorOf = (promise) =>
  promise.then(
    () => null,
    (error) => [error.constructor.name, error.status, error.code],
  );
told.errors = [
  await errorOf(responsesOf("wrong").create({ model, input: story.hello })),
  await errorOf(responses.create({ model: "gpt-9", input: story.hello })),
  await errorOf(responses.create({ model, input: story.too_long })),
];

console.log(JSON.stringify(told));
