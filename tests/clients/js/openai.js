// The openai package: everything it makes of the server's answers, as one JSON object.
import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { cancels } from "./cancelled.js";

const { baseURL, randomURL, thinkingURL, apiKey, model, story } = JSON.parse(process.argv[2]);
const chatOf = (key, url = baseURL) => new OpenAI({ baseURL: url, apiKey: key, maxRetries: 0 }).chat.completions;
const chat = chatOf(apiKey);
const user = (content) => [{ role: "user", content }];
const Person = z.object({ name: z.string().max(20), age: z.number().int().min(0).max(150) });
const Weather = z.object({ city: z.string(), days: z.number().int() });
const weather = ({ city, days }) => `${city}, ${days} days: ${city === "Oslo" ? 21 : 25}`;
const told = {};

const plain = await chat.create({ model, messages: user(story.hello) });
told.plain = [plain.choices[0].message.content, plain.choices[0].finish_reason];

let streamed = "";
const chunks = await chat.create({
  model,
  messages: user(story.hello),
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of chunks) {
  streamed += chunk.choices[0]?.delta.content ?? "";
  if (chunk.usage) told.usage = chunk.usage.completion_tokens;
}
told.stream = streamed;

const tools = [zodFunction({ name: "get_weather", parameters: Weather })];
const asked = await chat.stream({ model, messages: user(story.cities), tools }).finalChatCompletion();
const message = asked.choices[0].message;
told.calls = message.tool_calls.map((call) => call.function.parsed_arguments);
const results = message.tool_calls.map((call) => ({
  role: "tool",
  tool_call_id: call.id,
  content: weather(call.function.parsed_arguments),
}));
const reported = await chat.create({ model, messages: [...user(story.cities), message, ...results], tools });
told.report = reported.choices[0].message.content;

const runner = chat.runTools({
  model,
  messages: user(story.weather),
  tools: [
    {
      type: "function",
      function: {
        name: "get_weather",
        function: weather,
        parse: JSON.parse,
        description: "The weather of the next days",
        parameters: z.toJSONSchema(Weather),
      },
    },
  ],
});
told.run = await runner.finalContent();

const response_format = zodResponseFormat(Person, "person");
const parsed = await chat.parse({ model, messages: user(story.person), response_format });
told.parsed = parsed.choices[0].message.parsed;

const random = chatOf(apiKey, randomURL);
const hot = { model: "random", messages: user(story.hello), temperature: 1.5, max_tokens: 1000, seed: 1 };
told.constrained = (await random.parse({ ...hot, response_format })).choices[0].message.parsed;

const thinking = chatOf(apiKey, thinkingURL);
const thought = (await thinking.create({ model, messages: user(story.hello) })).choices[0].message;
told.thinking = [thought.reasoning_content, thought.content];

told.cancelled = await cancels(randomURL, async () => {
  const endless = await random.create({ ...hot, max_tokens: 3000, ignore_eos: true, stream: true });
  await endless[Symbol.asyncIterator]().next();
  endless.controller.abort();
});

const errorOf = (promise) =>
  promise.then(
    () => null,
    (error) => [error.constructor.name, error.status, error.code],
  );
told.errors = [
  await errorOf(chatOf("wrong").create({ model, messages: user(story.hello) })),
  await errorOf(chat.create({ model: "gpt-9", messages: user(story.hello) })),
  await errorOf(chat.create({ model, messages: user(story.too_long) })),
];

console.log(JSON.stringify(told));
