// The ai package, on responses with @ai-sdk/openai, on messages with @ai-sdk/anthropic, or on chat completions with
// @ai-sdk/openai-compatible: everything it makes of the server's answers, as one JSON object.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { cancels } from "./cancelled.js";

globalThis.AI_SDK_LOG_WARNINGS = false; // they would be printed between the results
const { baseURL, randomURL, thinkingURL, apiKey, model, story, api } = JSON.parse(process.argv[2]);
// The package has no option for fields that it does not know, such as `ignore_eos`.
const sending = (fields) => (url, request) =>
  fetch(url, { ...request, body: JSON.stringify({ ...JSON.parse(request.body), ...fields }) });
const provider = (key, url = baseURL, fields = {}) => {
  const options = { baseURL: url, apiKey: key, fetch: sending(fields) };
  return {
    responses: () => createOpenAI(options),
    messages: () => createAnthropic(options),
    chat: () =>
      createOpenAICompatible({ name: "lfm", includeUsage: true, supportsStructuredOutputs: true, ...options }),
  }[api]();
};
const chat = provider(apiKey)(model);
const Person = z.object({ name: z.string().max(20), age: z.number().int().min(0).max(150) });
const Choice = z.object({ color: z.enum(["red", "green"]), certain: z.boolean() });
const tools = {
  get_weather: tool({
    description: "The weather of the next days",
    inputSchema: z.object({ city: z.string(), days: z.number().int() }),
    execute: async ({ city, days }) => `${city}, ${days} days: ${city === "Oslo" ? 21 : 25}`,
  }),
};
// Of a model that it does not know, @ai-sdk/anthropic would require a call instead.
const providerOptions = { anthropic: { structuredOutputMode: "outputFormat" } };
const once = { maxRetries: 0, providerOptions };
const told = {};

const plain = await generateText({ ...once, model: chat, prompt: story.hello });
told.plain = [plain.text, plain.finishReason];

const streamed = streamText({ ...once, model: chat, prompt: story.hello });
told.stream = "";
for await (const piece of streamed.textStream) told.stream += piece;
told.usage = (await streamed.usage).outputTokens;

const called = streamText({ ...once, model: chat, prompt: story.cities, tools, stopWhen: stepCountIs(3) });
told.report = await called.text;
told.calls = (await called.steps)[0].toolCalls.map((call) => call.input);
const run = await generateText({ ...once, model: chat, prompt: story.weather, tools, stopWhen: stepCountIs(3) });
told.run = run.text;

const output = Output.object({ schema: Person });
told.parsed = (await generateText({ ...once, model: chat, prompt: story.person, output })).output;

const random = provider(apiKey, randomURL)("random");
const hot = { ...once, temperature: 1.5, maxOutputTokens: 1000, seed: 1 };
const held = api === "messages" ? Output.object({ schema: Choice }) : output; // Anthropic's clients leave out bounds
told.constrained = (await generateText({ ...hot, model: random, prompt: story.hello, output: held })).output;

const thinking = provider(apiKey, thinkingURL)(model);
const thought = await generateText({ ...once, model: thinking, prompt: story.hello });
told.thinking = [thought.reasoningText, thought.text];
const question = { role: "user", content: story.hello };
const turns = [question, ...thought.response.messages, question];
told.continued_thinking = (await generateText({ ...once, model: thinking, messages: turns })).text;

told.cancelled = await cancels(randomURL, async () => {
  const leaving = new AbortController();
  const options = { ...hot, maxOutputTokens: 3000, abortSignal: leaving.signal };
  const endlessModel = provider(apiKey, randomURL, { ignore_eos: true })("random");
  const endless = streamText({ ...options, model: endlessModel, prompt: story.hello });
  await endless.textStream[Symbol.asyncIterator]().next();
  leaving.abort();
});

const errorOf = (promise) =>
  promise.then(
    () => null,
    (error) => [error.name, error.statusCode, error.data.error.code ?? error.data.error.type],
  );
told.errors = [
  await errorOf(generateText({ ...once, model: provider("wrong")(model), prompt: story.hello })),
  await errorOf(generateText({ ...once, model: provider(apiKey)("gpt-9"), prompt: story.hello })),
  await errorOf(generateText({ ...once, model: chat, prompt: story.too_long })),
];

console.log(JSON.stringify(told));
