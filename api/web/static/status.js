// The status page: asks /system and /api/p2p/peers every two seconds while it is looked at, and shows their words as text.

const PERIOD_MS = 2000;
const element = (id) => document.getElementById(id);
const state = { key: "", timer: 0, tokens: new Map() };

function add(parent, tag, className, text) {
  const child = document.createElement(tag);
  if (className) child.className = className;
  if (text !== undefined) child.textContent = text;
  parent.append(child);
  return child;
}

function speed(model, now) {
  const before = state.tokens.get(model.id);
  state.tokens.set(model.id, { total: model.completion_tokens_total, at: now });
  if (!before || now <= before.at) return "";
  const rate = ((model.completion_tokens_total - before.total) / (now - before.at)) * 1000;
  return rate > 0 ? `${rate.toFixed(1)} tokens/s` : "";
}

function facts(model, now) {
  const parts = [model.backend];
  if (model.state === "ready") {
    parts.push(`${model.active} of ${model.slots} slots used`, `context ${model.context_size}`);
  }
  if (model.waiting) parts.push(`${model.waiting} waiting`);
  const rate = speed(model, now);
  if (rate) parts.push(rate);
  return parts.join(" · ");
}

function card(model, now) {
  const item = document.createElement("li");
  const title = add(item, "div", "title");
  add(title, "span", "", model.id);
  const badge = add(title, "span", "badge", model.state);
  badge.dataset.state = model.state;
  if (model.description) add(item, "p", "facts", model.description);
  add(item, "p", "facts", facts(model, now));
  if (model.state === "loading") {
    const bar = add(item, "progress");
    bar.max = 1000;
    bar.value = model.load_per_mille;
    bar.setAttribute("aria-label", `loading ${model.id}`);
  }
  if (model.problem) add(item, "p", "problem", model.problem);
  return item;
}

function show(system) {
  element("phase").textContent = system.phase;
  element("phase").dataset.state = system.phase;
  const now = performance.now();
  element("list").replaceChildren(...system.models.map((model) => card(model, now)));
  const none = system.phase === "starting" ? "The first model is being installed." : "There is no model here yet.";
  element("message").textContent = system.models.length ? "" : none;
  const usable = system.models.find((model) => model.state !== "broken") ?? system.models[0];
  if (usable) showCommand(usable.id);
}

function peerState(peer) {
  if (!peer.connected) return "lost";
  if (peer.draining) return "stopping";
  return peer.usable ? "ready" : "connected";
}

function peerCard(peer) {
  const item = document.createElement("li");
  const title = add(item, "div", "title");
  add(title, "span", "", peer.node);
  const badge = add(title, "span", "badge", peerState(peer));
  badge.dataset.state = peerState(peer);
  const parts = [peer.models.length ? peer.models.join(", ") : "no models"];
  if (peer.round_trip_ms) parts.push(`${peer.round_trip_ms.toFixed(1)} ms away`);
  if (peer.in_flight) parts.push(`${peer.in_flight} requests under way from here`);
  add(item, "p", "facts", parts.join(" · "));
  return item;
}

function showSwarm(swarm) {
  element("swarm").hidden = !swarm.enabled;
  element("peers").replaceChildren(...swarm.peers.map(peerCard));
  const alone = swarm.peers.length ? "" : "No other machine has joined yet.";
  element("swarm-message").textContent = [`This one is ${swarm.node}.`, alone, ...swarm.warnings].join(" ");
}

function showCommand(model) {
  const code = element("curl");
  const key = "needsKey" in code.dataset ? ' -H "Authorization: Bearer $LOCALAI_API_KEY"' : "";
  const body = JSON.stringify({ model, messages: [{ role: "user", content: "Hello!" }] }).replaceAll("'", "'\\''");
  const text = [
    `curl ${code.dataset.url}/v1/chat/completions${key}`,
    "  -H 'Content-Type: application/json'",
    `  -d '${body}'`,
  ].join(" \\\n");
  if (code.textContent !== text) code.textContent = text; // a change would undo the reader's selection
}

async function refresh() {
  clearTimeout(state.timer);
  if (document.hidden) return;
  if ("needsKey" in element("curl").dataset && !state.key) {
    element("key-form").hidden = false;
    element("message").textContent = "";
    return;
  }
  try {
    const headers = state.key ? { Authorization: `Bearer ${state.key}` } : {};
    const response = await fetch("/system", { headers, cache: "no-store" });
    element("key-form").hidden = response.status !== 401;
    if (response.status === 401) {
      element("message").textContent = state.key ? "That key is not right." : "";
      return;
    }
    if (!response.ok) throw new Error(`status ${response.status}`);
    show(await response.json());
    const swarm = await fetch("/api/p2p/peers", { headers, cache: "no-store" });
    if (swarm.ok) showSwarm(await swarm.json());
  } catch {
    element("phase").textContent = "not reachable";
    element("phase").dataset.state = "broken";
  }
  state.timer = setTimeout(refresh, PERIOD_MS);
}

element("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  state.key = element("key").value;
  refresh();
});
element("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(element("curl").textContent);
    element("copy").textContent = "Copied";
    setTimeout(() => (element("copy").textContent = "Copy"), PERIOD_MS);
  } catch {
    getSelection().selectAllChildren(element("curl")); // pages over plain HTTP from elsewhere have no clipboard
  }
});
document.addEventListener("visibilitychange", refresh);
refresh();
