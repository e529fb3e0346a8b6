// <tokenface-viewer src="face.glb">: a head to look at from all sides, and to move by hand. Needs nothing but WebGL 2.
//
// Attributes: src; partner (a second head to blend with); light (JSON [9][3], band constants included);
// skin ("photo": the light is in the texture already); arkit (JSON action → weight that src shows);
// state (JSON, see `show`).

import { readGlb } from "./glb.js";
import { Head, multiply, rotation } from "./head.js";

const FIELD_OF_VIEW = 0.42; // radians
const TURN = 0.9; // radians a second, on the turntable
const START = { arkit: {}, angles: [0, 0, 0], lightTurn: 0, lightHeight: 0, lightStrength: 1, share: 0 };

const VERTEX = `#version 300 es
in vec3 position; in vec3 normal; in vec2 uv;
uniform mat3 turn, view; uniform vec3 centre; uniform vec2 scale; uniform float distance, range;
out vec3 facing; out vec2 place; out float rim;
void main() {
  vec3 seen = view * (turn * (position - centre));
  facing = turn * normal; place = uv; rim = (view * facing).z;
  float depth = distance - seen.z;
  gl_Position = vec4(seen.xy * scale, (depth - distance) / range * depth, depth);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
in vec3 facing; in vec2 place; in float rim;
uniform sampler2D skin, otherSkin, strands; uniform float share, strength; uniform bool baked, hairy; uniform mat3 lightTurn;
uniform vec3 light[9];
out vec4 colour;
vec3 received(vec3 n) {
  return light[0] + light[1] * n.x + light[2] * n.y + light[3] * n.z + light[4] * n.x * n.y + light[5] * n.x * n.z
    + light[6] * n.y * n.z + light[7] * (n.x * n.x - n.y * n.y) + light[8] * (3.0 * n.z * n.z - 1.0);
}
void main() {
  vec3 n = normalize(gl_FrontFacing ? facing : -facing);
  vec3 moved = strength * received(n * lightTurn); // row vector: the inverse turn
  vec4 strand = texture(strands, place);
  if (hairy && strand.a < 0.5) discard;
  vec3 albedo = hairy ? strand.rgb / strand.a : mix(texture(skin, place).rgb, texture(otherSkin, place).rgb, share);
  vec3 before = max(received(n), 0.15); // the unmoved light on a baked skin is 1 everywhere, the dark back of it too
  vec3 shade = baked ? clamp(max(moved, strength * 0.15) / before, 0.0, 3.0) : max(moved, 0.0);
  colour = vec4(clamp(albedo * shade, 0.0, 1.0), 1.0);
}`;

const LOOK = `
:host { display: block; position: relative; height: var(--viewer-height, 30rem); border-radius: .75rem; overflow: hidden;
  background: linear-gradient(#41464f, #1d2025); }
canvas { width: 100%; height: 100%; display: block; cursor: grab; touch-action: pan-y; outline-offset: -3px; }
canvas:active { cursor: grabbing; }
div { position: absolute; right: .6rem; top: .6rem; display: flex; gap: .4rem; }
button { font: inherit; font-size: .85rem; color: #fff; background: #000a;
  border: 1px solid #fff4; border-radius: .5rem; padding: .3rem .7rem; cursor: pointer; }
button[aria-pressed=true] { background: #0f766e; }
p { position: absolute; inset: auto 0 .6rem; margin: 0; text-align: center; color: #fffc; font-size: .8rem; pointer-events: none; }
p.wrong { inset: 40% 1rem auto; font-size: 1rem; color: #fff; }`;

class Viewer extends HTMLElement {
  #gl = null; #program = null; #places = {}; #buffers = {}; #skinned = null; #hair = null; #head = null; #partner = null; #waiting = false;
  #azimuth = 0; #elevation = 0; #zoom = 1; #watcher = null; #starting = false;
  #found = {}; #state = START; #turning = false; #turnButton = null;

  static observedAttributes = ["src", "partner", "state", "ready"];

  connectedCallback() { this.#start(); }

  disconnectedCallback() { this.#stop(); }

  /** The page changes the attributes of the element that is there: look at another head. */
  attributeChangedCallback(name, _, value) {
    if (name === "ready") { // the page's new attributes take the place of all old ones, this one too
      if (value === null && this.#head) this.setAttribute("ready", "");
      return;
    }
    this.sliders = null; // what the page's sliders have done: they are told anew as well
    if (this.#starting || !this.#watcher) return;
    if (name === "state") {
      if (this.#head) this.show(this.#given());
      return;
    }
    this.#starting = true;
    queueMicrotask(() => { // once for all attributes that change together
      this.#starting = false;
      this.#stop();
      if (this.isConnected) this.#start();
    });
  }

  #start() {
    const root = this.shadowRoot ?? this.attachShadow({ mode: "open" });
    root.innerHTML = `<style>${LOOK}</style><canvas tabindex="0" role="img" aria-label="3-D head; drag to turn it"></canvas>
      <div><button title="Turn the head round and round" aria-pressed="false">Turntable</button>
      <button title="Look from the front again">Reset view</button></div><p>loading …</p>`;
    this.canvas = root.querySelector("canvas");
    this.note = root.querySelector("p");
    const [turn, reset] = root.querySelectorAll("button");
    this.#turnButton = turn;
    turn.addEventListener("click", () => this.#turntable(!this.#turning));
    reset.addEventListener("click", () => {
      this.#turntable(false);
      this.#look(0, 0, 1);
    });
    this.#listen();
    this.#watcher = new ResizeObserver(() => this.#draw());
    this.#watcher.observe(this);
    this.#load(this.canvas).catch((error) => this.#wrong(error.message));
  }

  /** What is shown: see `show`. */
  get shown() { return this.#state; }

  /** Turn round and round, or stop; whoever takes hold of the head stops it. */
  #turntable(on) {
    const started = on && !this.#turning;
    this.#turning = on;
    this.#turnButton.setAttribute("aria-pressed", String(on));
    if (!started) return;
    let last = null;
    const step = (now) => {
      if (!this.#turning) return;
      if (last !== null) this.#look(this.#azimuth + ((now - last) / 1000) * TURN, this.#elevation, this.#zoom);
      last = now;
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  #stop() {
    this.#turning = false;
    this.#watcher?.disconnect();
    this.#watcher = this.#head = this.frame = null;
    this.removeAttribute("ready");
    this.removeAttribute("failed");
    this.#gl?.getExtension("WEBGL_lose_context")?.loseContext(); // browsers give a page few contexts
    this.#gl = null;
  }

  /**
   * Change what is shown, any of: arkit (action → weight), angles ([yaw, pitch, roll] of the head), lightTurn and
   * lightHeight (radians to the right and up), lightStrength, share (of the partner).
   */
  show(state) {
    this.#state = { ...this.#state, ...state };
    this.#pose();
  }

  #given() {
    return { ...START, ...JSON.parse(this.getAttribute("state") ?? "{}") };
  }

  async #load(canvas) {
    const [own, other] = await Promise.all([fetchHead(this.getAttribute("src")), fetchHead(this.getAttribute("partner"))]);
    if (canvas !== this.canvas || !this.#watcher) return; // another one was asked for meanwhile
    this.#state = this.#given();
    this.#found = JSON.parse(this.getAttribute("arkit") ?? "{}");
    this.#prepare(own, other ?? own);
    this.#head = own.head;
    this.#partner = other?.head ?? null;
    this.#pose();
    this.note.textContent = "drag to turn · scroll or pinch to zoom";
    setTimeout(() => { this.note.textContent = ""; }, 4000);
    this.setAttribute("ready", "");
  }

  #prepare(own, other) {
    const gl = this.#gl = this.canvas.getContext("webgl2", { antialias: true, alpha: true });
    if (!gl) throw new Error("this browser has no WebGL 2; the downloads below still work");
    const program = this.#program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    for (const name of ["turn", "view", "centre", "scale", "distance", "range", "share", "strength", "baked", "lightTurn", "skin", "otherSkin", "strands", "hairy", "light"]) {
      this.#places[name] = gl.getUniformLocation(program, name);
    }
    const { file } = own.head, { hair } = file;
    [this.#skinned, this.#buffers] = this.#mesh({ ...file, positions: null, normals: null });
    this.#hair = hair && { sheet: this.#mesh(hair)[0], corners: hair.triangles.length };
    [own.bitmap, other.bitmap, own.strands].forEach((bitmap, unit) => {
      gl.uniform1i(this.#places[["skin", "otherSkin", "strands"][unit]], unit);
      if (!bitmap) return;
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
      gl.generateMipmap(gl.TEXTURE_2D);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
      for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
    });
    const light = JSON.parse(this.getAttribute("light") ?? "[[1,1,1]]").flat();
    gl.uniform3fv(this.#places.light, new Float32Array([...light, ...new Array(27 - light.length).fill(0)]));
    gl.uniform1i(this.#places.baked, this.getAttribute("skin") === "photo" ? 1 : 0);
    gl.enable(gl.DEPTH_TEST);
  }

  /** A mesh on the graphics card: its vertex array and its buffers by name; what is null comes with every pose. */
  #mesh({ positions, normals, uvs, triangles }) {
    const gl = this.#gl, sheet = gl.createVertexArray(), buffers = {};
    gl.bindVertexArray(sheet);
    for (const [name, size, data] of [["position", 3, positions], ["normal", 3, normals], ["uv", 2, uvs]]) {
      const buffer = buffers[name] = gl.createBuffer(), at = gl.getAttribLocation(this.#program, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      if (data) gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(at);
      gl.vertexAttribPointer(at, size, gl.FLOAT, false, 0, 0);
    }
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, new Uint32Array(triangles), gl.STATIC_DRAW);
    return [sheet, buffers];
  }

  #pose() {
    if (!this.#head || !this.#gl) return;
    const gl = this.#gl, head = this.#head;
    const changes = Object.fromEntries(Object.entries(this.#state.arkit).map(([name, weight]) => [name, weight - (this.#found[name] ?? 0)]));
    head.pose(changes, this.#partner, this.#state.share);
    this.frame ??= frame([head.positions, head.file.hair?.positions ?? []]);
    for (const [name, data] of [["position", head.positions], ["normal", head.normals]]) {
      gl.bindBuffer(gl.ARRAY_BUFFER, this.#buffers[name]);
      gl.bufferData(gl.ARRAY_BUFFER, data, gl.DYNAMIC_DRAW);
    }
    this.#draw();
  }

  #draw() {
    if (this.#waiting || !this.#head) return;
    this.#waiting = true;
    requestAnimationFrame(() => {
      this.#waiting = false;
      if (this.#gl) this.#paint();
    });
  }

  #paint() {
    const gl = this.#gl, at = this.#places, { canvas } = this, ratio = Math.min(devicePixelRatio, 2);
    const width = Math.round(this.clientWidth * ratio), height = Math.round(this.clientHeight * ratio);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const { angles: [yaw, pitch, roll], lightTurn, lightHeight, lightStrength, share } = this.#state;
    const { centre, radius } = this.frame, distance = (1.02 * radius) / Math.sin(FIELD_OF_VIEW / 2) / this.#zoom;
    const focal = 1 / Math.tan(FIELD_OF_VIEW / 2), narrow = Math.min(width / height, 1);
    const turned = (yaw, pitch, roll) => multiply(rotation([0, 0, roll]), multiply(rotation([0, yaw, 0]), rotation([-pitch, 0, 0])));
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.uniformMatrix3fv(at.turn, true, turned(yaw, pitch, roll));
    gl.uniformMatrix3fv(at.view, true, multiply(rotation([this.#elevation, 0, 0]), rotation([0, this.#azimuth, 0])));
    gl.uniformMatrix3fv(at.lightTurn, true, turned(lightTurn, lightHeight, 0));
    gl.uniform3fv(at.centre, centre);
    gl.uniform2f(at.scale, (focal * narrow * height) / width, focal * narrow);
    gl.uniform1f(at.distance, distance);
    gl.uniform1f(at.range, 1.5 * radius);
    gl.uniform1f(at.share, this.#partner ? share : 0);
    gl.uniform1f(at.strength, lightStrength);
    for (const [sheet, corners, hairy] of [[this.#skinned, this.#head.file.triangles.length, 0], [this.#hair?.sheet, this.#hair?.corners, 1]]) {
      if (!sheet || (hairy && this.#partner && share > 0.5)) continue; // the other person's hair is not known here
      gl.bindVertexArray(sheet);
      gl.uniform1i(at.hairy, hairy);
      gl.drawElements(gl.TRIANGLES, corners, gl.UNSIGNED_INT, 0);
    }
  }

  #look(azimuth, elevation, zoom) {
    this.#azimuth = azimuth;
    this.#elevation = Math.max(-1.4, Math.min(1.4, elevation));
    this.#zoom = Math.max(0.5, Math.min(5, zoom));
    this.#draw();
  }

  #listen() {
    const { canvas } = this, fingers = new Map();
    const spread = () => {
      const [a, b] = [...fingers.values()];
      return Math.hypot(a.x - b.x, a.y - b.y);
    };
    canvas.addEventListener("pointerdown", (event) => {
      this.#turntable(false);
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    });
    canvas.addEventListener("pointermove", (event) => {
      const last = fingers.get(event.pointerId);
      if (!last) return;
      const before = fingers.size === 2 ? spread() : 0;
      const dx = event.clientX - last.x, dy = event.clientY - last.y;
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      if (before) this.#look(this.#azimuth, this.#elevation, (this.#zoom * spread()) / before);
      else this.#look(this.#azimuth + dx * 0.009, this.#elevation + dy * 0.009, this.#zoom);
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => fingers.delete(event.pointerId));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.#look(this.#azimuth, this.#elevation, this.#zoom * Math.exp(-event.deltaY * 0.0012));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const [turn, lift, zoom] = { ArrowLeft: [-0.15, 0, 1], ArrowRight: [0.15, 0, 1], ArrowUp: [0, -0.15, 1], ArrowDown: [0, 0.15, 1], "+": [0, 0, 1.15], "-": [0, 0, 1 / 1.15] }[event.key] ?? [];
      if (turn === undefined) return;
      event.preventDefault();
      this.#look(this.#azimuth + turn, this.#elevation + lift, this.#zoom * zoom);
    });
  }

  #wrong(message) {
    this.note.className = "wrong";
    this.note.textContent = message;
    this.setAttribute("failed", "");
  }
}

async function fetchHead(address) {
  if (!address) return null;
  const response = await fetch(address);
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error ?? `the head could not be fetched (${response.status})`);
  const head = new Head(readGlb(await response.arrayBuffer()));
  const bitmap = await createImageBitmap(head.file.image), { hair } = head.file;
  const strands = hair && await createImageBitmap(hair.image, { premultiplyAlpha: "premultiply" });
  return { head, bitmap, strands };
}

/** Middle and radius of a head, from the box of its meshes. */
function frame(meshes) {
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  for (const positions of meshes) positions.forEach((value, i) => { low[i % 3] = Math.min(low[i % 3], value); high[i % 3] = Math.max(high[i % 3], value); });
  const size = low.map((value, axis) => high[axis] - value);
  return { centre: low.map((value, axis) => value + size[axis] / 2), radius: Math.hypot(size[0], size[1]) / 2 };
}

customElements.define("tokenface-viewer", Viewer);

const viewer = (id) => document.querySelector(`#${id} tokenface-viewer`);

const ROUNDED = 0.006; // a slider's step rounds a found weight by as much

/**
 * The page's sliders, as they move: whether both sides go together, weights of the actions, then degrees of the head
 * and the light, strength, share. pairs: actions of the left and the right side.
 */
function slide(id, actions, pairs, [both, ...values]) {
  const element = viewer(id);
  if (!element?.hasAttribute("ready")) return;
  const partner = Object.fromEntries(pairs.flatMap(([left, right]) => [[left, right], [right, left]]));
  const { arkit } = element.shown, known = element.sliders;
  const now = known ? [...known.now] : actions.map((name) => arkit[name] ?? 0);
  const last = known?.raw ?? [...now]; // a copy: a partner that moves along has not been moved itself
  actions.forEach((name, index) => {
    if (Math.abs(values[index] - last[index]) <= (known ? 0 : ROUNDED)) return;
    now[index] = values[index];
    if (both && name in partner) now[actions.indexOf(partner[name])] = values[index];
  });
  element.sliders = { raw: values.slice(0, actions.length), now };
  show(id, actions, [...now, ...values.slice(actions.length)]);
}

/** Where the sliders stand now that one was let go: the other side has moved along. */
function settled(id, actions, values) {
  const element = viewer(id), now = element?.sliders?.now;
  if (!now) return values;
  const rounded = now.map((value) => Math.round(value * 1000) / 1000);
  element.sliders = { raw: rounded, now };
  return [...rounded, ...values.slice(actions.length)];
}

/** All of an expression at once: what `weights` does not name is at rest. */
function preset(id, actions, weights, values) {
  const element = viewer(id), now = actions.map((name) => weights[name] ?? 0);
  if (!element?.hasAttribute("ready")) return values;
  const set = [...now, ...values.slice(actions.length)];
  element.sliders = { raw: now, now };
  show(id, actions, set);
  return set;
}

function show(id, actions, values) {
  const radians = (degrees) => (degrees * Math.PI) / 180;
  const [yaw, pitch, roll, turn, height, strength, share] = values.slice(actions.length);
  viewer(id)?.show({
    arkit: Object.fromEntries(actions.map((name, index) => [name, values[index]])),
    angles: [yaw, pitch, roll].map(radians),
    lightTurn: radians(turn), lightHeight: radians(height), lightStrength: strength, share,
  });
}

// A picture that cannot be shown leaves its place empty: what is wrong with it is said in words beside it.
for (const kind of ["error", "load"]) {
  document.addEventListener(kind, ({ target }) => {
    if (target instanceof HTMLImageElement) target.style.visibility = kind === "error" ? "hidden" : "";
  }, true);
}

window.tokenface = { viewer, slide, settled, preset };
