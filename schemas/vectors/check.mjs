// Recomputes every published vector from the written rules, with Node's standard library alone.
// Run: node schemas/vectors/check.mjs. Exits 1 and names each difference.

import { createHash, createHmac } from "node:crypto";
import { readFileSync } from "node:fs";

const NAMESPACE_URL = "6ba7b811-9dad-11d1-80b4-00c04fd430c8";
const read = (name) => JSON.parse(readFileSync(new URL(name, import.meta.url), "utf8"));

let compared = 0;
const differences = [];
function expect(what, actual, expected) {
  compared += 1;
  if (actual !== expected) differences.push(`${what}: computed ${actual}, published ${expected}`);
}

// --- identities: RFC 9562 version 5 over the UTF-8 of a name -------------------------------------

function uuid5(namespace, name) {
  const bytes = createHash("sha1")
    .update(Buffer.from(namespace.replaceAll("-", ""), "hex"))
    .update(Buffer.from(name, "utf8"))
    .digest()
    .subarray(0, 16);
  bytes[6] = (bytes[6] & 0x0f) | 0x50;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = bytes.toString("hex");
  const parts = [[0, 8], [8, 12], [12, 16], [16, 20], [20, 32]];
  return parts.map(([from, to]) => hex.slice(from, to)).join("-");
}

const namespaceOf = (tenant) => uuid5(NAMESPACE_URL, `urn:sluicegate:tenant:${tenant}`);
const identity = (tenant, name) => uuid5(namespaceOf(tenant), name);

// --- canonical JSON: keys by code point, no white space, 1 and 1.0 apart -------------------------

function byCodePoint(left, right) {
  const a = Array.from(left, (character) => character.codePointAt(0));
  const b = Array.from(right, (character) => character.codePointAt(0));
  for (let index = 0; index < Math.min(a.length, b.length); index += 1) {
    if (a[index] !== b[index]) return a[index] - b[index];
  }
  return a.length - b.length;
}

function number(token) {
  if (/^-?\d+$/.test(token)) return BigInt(token).toString();
  const text = String(Number(token));
  return /[.e]/.test(text) ? text : `${text}.0`;
}

// A reader of its own: JSON.parse forgets whether a number was written 1 or 1.0.
function canonical(text) {
  const tokens = /\s*("(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|[[\]{}:,])/gy;
  const next = () => tokens.exec(text)?.[1];
  function value(token) {
    if (token === "{") {
      const entries = new Map();
      for (let key = next(); key !== "}"; key = next()) {
        if (key === ",") continue;
        next(); // the colon
        entries.set(JSON.parse(key), value(next()));
      }
      const keys = [...entries.keys()].sort(byCodePoint);
      return `{${keys.map((key) => `${JSON.stringify(key)}:${entries.get(key)}`).join(",")}}`;
    }
    if (token === "[") {
      const items = [];
      for (let item = next(); item !== "]"; item = next()) if (item !== ",") items.push(value(item));
      return `[${items.join(",")}]`;
    }
    if (token.startsWith('"')) return JSON.stringify(JSON.parse(token));
    return /^[-\d]/.test(token) ? number(token) : token;
  }
  return value(next());
}

const identities = read("identity.json");
for (const { tenant, namespace } of identities.namespaces) {
  expect(`namespace of ${tenant}`, namespaceOf(tenant), namespace);
}
for (const { tenant, idempotency_key: key, id } of identities.keys) {
  expect(`key ${tenant}/${key}`, identity(tenant, `key:${key}`), id);
}
for (const { tenant, ce_source: source, ce_id: event, id } of identities.events) {
  expect(`event ${tenant}/${source}/${event}`, identity(tenant, `event:${source}\n${event}`), id);
}
for (const { tenant, cluster_id, topic, partition, offset, timestamp, id } of identities.records) {
  const name = `record:${cluster_id}/${topic}/${partition}/${offset}/${timestamp}`;
  expect(`record ${tenant}/${name}`, identity(tenant, name), id);
}
for (const { url, body, canonical: published, sha256 } of identities.bodies) {
  const text = canonical(body);
  expect(`canonical form of ${body}`, text, published);
  expect(`hash of ${body}`, createHash("sha256").update(`${url}\n${text}`).digest("hex"), sha256);
}

// --- signatures: HMAC-SHA256 over ten lines, a line feed, and the value --------------------------

const LINES = [
  "topic", "key_id", "ce_id", "ce_source", "ce_time",
  "ce_type", "correlation_id", "reply_to", "reply_partition", "on_behalf_of",
];
const toBytes = (line) =>
  typeof line === "string" ? Buffer.from(line, "utf8") : Buffer.from(line.base64, "base64");

const signatures = read("signature.json");
const key = createHash("sha256").update(signatures.secret, "utf8").digest();
expect("the HMAC key", key.toString("hex"), signatures.hmac_key_hex);
signatures.signatures.forEach(({ lines, value_base64, text_base64, signature }, index) => {
  const parts = [];
  for (const name of LINES) parts.push(toBytes(lines[name]), Buffer.from("\n"));
  parts.push(Buffer.from(value_base64 ?? "", "base64"));
  const text = Buffer.concat(parts);
  expect(`text ${index}`, text.toString("base64"), text_base64);
  const digest = createHmac("sha256", key).update(text).digest("base64");
  expect(`signature ${index}`, `v1,${digest}`, signature);
});

const encoded = (segment) =>
  encodeURIComponent(segment).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
for (const { segments, header } of signatures.callers) {
  expect(`caller ${header}`, segments.map(encoded).join("/"), header);
}

for (const difference of differences) console.error(difference);
console.log(`${compared} vectors compared, ${differences.length} differences`);
process.exit(differences.length === 0 ? 0 : 1);
