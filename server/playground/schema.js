const TYPES = ["null", "boolean", "object", "array", "number", "string", "integer"];
const MAX_DEPTH = 100; // the server's limit
const UNENFORCED = [
  "contains",
  "unevaluatedItems",
  "unevaluatedProperties",
  "uniqueItems",
  "$dynamicRef",
  "$recursiveRef",
];
const MAPS = ["properties", "patternProperties", "$defs", "definitions"];
const LISTS = ["allOf", "anyOf", "oneOf", "prefixItems"];
const SINGLE = ["items", "additionalProperties", "not", "if", "then", "else", "propertyNames"];

/**
 * Return the first thing that is wrong with a JSON schema, or "". The server checks the rest.
 *
 * @param {any} schema
 * @param {string} [place]
 * @param {number} [depth]
 * @returns {string}
 */
export function problemOfSchema(schema, place = "The schema", depth = 0) {
  if (typeof schema === "boolean") return "";
  if (typeof schema !== "object" || schema === null || Array.isArray(schema))
    return `${place} must be an object or a boolean.`;
  if (depth > MAX_DEPTH) return `The schema has more than ${MAX_DEPTH} levels.`;
  const types = schema.type === undefined ? [] : [schema.type].flat();
  const unknown = types.find((type) => !TYPES.includes(type));
  if (unknown !== undefined) return `${place}: type ${JSON.stringify(unknown)} is not one of ${TYPES.join(", ")}.`;
  const unenforced = UNENFORCED.find((keyword) => Object.hasOwn(schema, keyword));
  if (unenforced) return `${place}: the server cannot enforce "${unenforced}".`;
  if (schema.required !== undefined && !isStrings(schema.required)) return `${place}: "required" is a list of names.`;
  if (schema.enum !== undefined && !(Array.isArray(schema.enum) && schema.enum.length))
    return `${place}: "enum" is a list of at least one value.`;
  for (const [part, inner] of parts(schema)) {
    const problem = problemOfSchema(inner, part, depth + 1);
    if (problem) return problem;
  }
  return "";
}

/** @param {any} value */
function isStrings(value) {
  return Array.isArray(value) && value.every((each) => typeof each === "string");
}

/**
 * Return the schemas within a schema, with their places.
 *
 * @param {Record<string, any>} schema
 * @returns {[string, any][]}
 */
function parts(schema) {
  const maps = MAPS.flatMap((keyword) =>
    Object.entries(schema[keyword] ?? {}).map(([name, inner]) => [`${keyword}.${name}`, inner]),
  );
  const lists = LISTS.flatMap((keyword) =>
    [schema[keyword] ?? []].flat().map((inner, index) => [`${keyword}[${index}]`, inner]),
  );
  const single = SINGLE.filter((keyword) => schema[keyword] !== undefined).map((keyword) => [keyword, schema[keyword]]);
  return /** @type {[string, any][]} */ ([...maps, ...lists, ...single]);
}
