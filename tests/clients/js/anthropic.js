// The @anthropic-ai/sdk package: everything it makes of the server's answers, as one JSON object.
import Anthropic from "@anthropic-ai/sdk";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";
import { cancels } from "./cancelled.js";

const { baseURL, randomURL, thinkingURL, apiKey, model, story } = JSON.parse(process.argv[2]);
const rootOf = (url) => url.replace(/\/v1$/, "");
const messagesOf = (key, url = baseURL) => new Anthropic({ baseURL: rootOf(url), apiKey: key, maxRetries: 0 }).messages;
const messages = messagesOf(apiKey);
const Person = z.object({ name: z.string().max(20), age: z.number().int().min(0).max(150) });
const Choice = z.object({ color: z.enum(["red", "green"]), certain: z.boolean() }); // bounds would be left out
const Weather = z.object({ city: z.string(), days: z.number().int() });
const weather = ({ city, days }) => `${city}, ${days} days: ${city === "Oslo" ? 21 : 25}`;
const asked = (content, rest = {}) => ({ model, max_tokens: 200, messages: [{ role: "user", content }], ...rest });
const textOf = (message) => message.content.map((block) => block.text ?? "").join("");
const told = {};

const plain = await messages.create(asked(story.hello));
told.plain = [textOf(plain), plain.stop_reason];
told.usage = plain.usage.output_tokens;

const stream = messages.stream(asked(story.hello));
told.stream = "";
stream.on("text", (piece) => (told.stream += piece));
told.gathered = textOf(await stream.finalMessage());

const tools = [{ name: "get_weather", input_schema: z.toJSONSchema(Weather), strict: true }];
const callsOf = (message) => message.content.filter((block) => block.type === "tool_use");
const followed = async (question, first) => {
  const results = callsOf(first).map((call) => ({
    type: "tool_result",
    tool_use_id: call.id,
    content: weather(call.input),
  }));
  const history = [
    { role: "user", content: question },
    { role: "assistant", content: first.content },
    { role: "user", content: results },
  ];
  return textOf(await messages.create({ model, max_tokens: 200, messages: history, tools }));
};
const called = await messages.stream(asked(story.cities, { tools })).finalMessage();
told.calls = callsOf(called).map((call) => call.input);
told.report = await followed(story.cities, called);
told.run = await followed(story.weather, await messages.create(asked(story.weather, { tools })));

const output_config = { format: zodOutputFormat(Person) };
told.parsed = (await messages.parse(asked(story.person, { output_config }))).parsed_output;
const hot = { model: "random", max_tokens: 1000, temperature: 1.5, seed: 1 };
const random = messagesOf(apiKey, randomURL);
told.constrained = (
  await random.parse(
    asked(story.hello, { ...hot, output_config: { format: zodOutputFormat(Choice) } }),
  )
).parsed_output;

const counted = await messages.countTokens({ model, messages: [{ role: "user", content: story.hello }] });
told.counted = counted.input_tokens === plain.usage.input_tokens + plain.usage.cache_read_input_tokens;

const thinking = messagesOf(apiKey, thinkingURL);
const thoughts = await thinking.stream(asked(story.hello)).finalMessage();
told.thinking = [thoughts.content[0].thinking, textOf(thoughts)];
const question = { role: "user", content: story.hello };
const turns = [question, { role: "assistant", content: thoughts.content }, question];
told.continued_thinking = textOf(await thinking.create({ model, max_tokens: 200, messages: turns }));

told.cancelled = await cancels(randomURL, async () => {
  const endless = random.stream(asked(story.hello, { ...hot, max_tokens: 3000, ignore_eos: true }));
  await endless[Symbol.asyncIterator]().next();
  endless.abort();
});

const errorOf = (promise) =>
  promise.then(
    () => null,
    (error) => [error.constructor.name, error.status, error.error.error.type],
  );
told.errors = [
  await errorOf(messagesOf("wrong").create(asked(story.hello))),
  await errorOf(messages.create(asked(story.hello, { model: "gpt-9" }))),
  await errorOf(messages.create(asked(story.too_long))),
];

console.log(JSON.stringify(told));
