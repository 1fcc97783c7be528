/**
 * Tool definitions to start from. Their functions run on the page and invent their data; only the calculator computes.
 */

/** @typedef {(values: Record<string, any>) => unknown} Implementation */
/** @typedef {{type: "function", function: {name: string, description: string, parameters: object}}} Tool */

/**
 * @param {string} name
 * @param {string} description
 * @param {Record<string, [type: string, description: string]>} properties
 * @returns {Tool}
 */
function tool(name, description, properties) {
  const described = Object.fromEntries(
    Object.entries(properties).map(([key, [type, text]]) => [key, { type, description: text }]),
  );
  const parameters = { type: "object", properties: described, required: Object.keys(properties) };
  return { type: "function", function: { name, description, parameters } };
}

const CONDITIONS = ["sunny", "cloudy", "rainy", "windy", "foggy", "clear"];
const STATUSES = ["Interview Scheduled", "Hired", "Waiting", "Offer Sent", "Phone Screen"];
const POSITIONS = ["Data Engineer", "Nurse", "Accountant", "Product Designer", "Teacher"];

/** @type {{label: string, question: string, tools: Tool[]}[]} */
export const TEMPLATES = [
  {
    label: "Weather",
    question: "What is the weather in Lisbon?",
    tools: [tool("get_weather", "Get the current weather in a city", { city: ["string", "Name of the city"] })],
  },
  {
    label: "Calculator",
    question: "What is 17 times 23?",
    tools: [
      tool("add", "Add two numbers", { a: ["integer", "The first number"], b: ["integer", "The second number"] }),
      tool("multiply", "Multiply two numbers", {
        a: ["integer", "The first factor"],
        b: ["integer", "The second factor"],
      }),
    ],
  },
  {
    label: "Candidate status",
    question: "What is the current status of candidate ID 12345?",
    tools: [
      tool("get_candidate_status", "Retrieves the current status of a candidate in the recruitment process", {
        candidate_id: ["string", "Unique identifier for the candidate"],
      }),
    ],
  },
];

/** @type {Record<string, Implementation>} */
const FUNCTIONS = {
  get_weather: ({ city }) => {
    const draw = hash(city);
    return { city, temperature: (draw % 35) - 5, condition: pick(CONDITIONS, draw) };
  },
  add: ({ a, b }) => ({ result: Number(a) + Number(b) }),
  multiply: ({ a, b }) => ({ result: Number(a) * Number(b) }),
  get_candidate_status: ({ candidate_id }) => {
    const draw = hash(candidate_id);
    const date = `2026-${two((draw % 12) + 1)}-${two((draw % 28) + 1)}`;
    return [{ candidate_id, status: pick(STATUSES, draw), position: pick(POSITIONS, draw), date }];
  },
};

/**
 * Return the built-in function of a call; undefined if there is none.
 *
 * @param {string} name
 * @returns {Implementation | undefined}
 */
export function builtIn(name) {
  return Object.hasOwn(FUNCTIONS, name) ? FUNCTIONS[name] : undefined;
}

/**
 * Return a number that depends only on `value`, so that the same question has the same answer.
 *
 * @param {unknown} value
 */
function hash(value) {
  let sum = 7;
  for (const character of String(value)) sum = (sum * 31 + /** @type {number} */ (character.codePointAt(0))) % 65521;
  return sum;
}

/**
 * @param {string[]} values
 * @param {number} draw
 */
function pick(values, draw) {
  return values[draw % values.length];
}

/** @param {number} value */
function two(value) {
  return String(value).padStart(2, "0");
}
