// A head that moves: expression by morph targets, jaw and eyes by joints, as the head model does it.

/** Rotation vector (radians) → 3 × 3 matrix, row by row. */
export function rotation([x, y, z]) {
  const angle = Math.hypot(x, y, z);
  if (angle < 1e-9) return [1, 0, 0, 0, 1, 0, 0, 0, 1];
  const a = x / angle, b = y / angle, c = z / angle, s = Math.sin(angle), k = Math.cos(angle), t = 1 - k;
  return [
    t * a * a + k, t * a * b - s * c, t * a * c + s * b,
    t * a * b + s * c, t * b * b + k, t * b * c - s * a,
    t * a * c - s * b, t * b * c + s * a, t * c * c + k,
  ];
}

export function multiply(a, b) {
  const out = new Array(9);
  for (let r = 0; r < 3; r++) for (let c = 0; c < 3; c++) out[3 * r + c] = a[3 * r] * b[c] + a[3 * r + 1] * b[3 + c] + a[3 * r + 2] * b[6 + c];
  return out;
}

export function apply(m, [x, y, z]) {
  return [m[0] * x + m[1] * y + m[2] * z, m[3] * x + m[4] * y + m[5] * z, m[6] * x + m[7] * y + m[8] * z];
}

function rotationVector([x, y, z, w]) {
  const sine = Math.hypot(x, y, z);
  if (sine < 1e-9) return [0, 0, 0];
  const factor = (2 * Math.atan2(sine, w)) / sine;
  return [x * factor, y * factor, z * factor];
}

export class Head {
  constructor(file) {
    this.file = file;
    this.count = file.positions.length / 3;
    this.drive = file.json.asset?.extras?.joint_drive ?? {};
    this.found = Object.fromEntries(file.morphs.map(({ name, weight }) => [name, weight]));
    this.foundTurns = Object.fromEntries(file.skeleton.map(({ name, rotation }) => [name, rotationVector(rotation)]));
    this.shown = new Float32Array(file.positions.length);
    this.positions = new Float32Array(file.positions.length);
    this.normals = new Float32Array(file.positions.length);
    this.welded = weld(file.positions);
  }

  /**
   * Sets `positions` and `normals`.
   * changes: action → weight minus the weight that was found (ARKit names).
   * partner, share: another head of the same model, and how much of its shape to take.
   */
  pose(changes, partner = null, share = 0) {
    const { file, shown } = this;
    const mix = partner ? share : 0;
    for (let i = 0; i < shown.length; i++) shown[i] = file.positions[i] + (mix ? mix * (partner.file.positions[i] - file.positions[i]) : 0);
    const turns = structuredClone(this.foundTurns);
    for (const { name, vertices, moves } of file.morphs) {
      const driven = this.drive[name];
      const change = changes[name] ?? 0;
      for (const [joint, turn] of Object.entries(driven ?? {})) {
        for (let axis = 0; axis < 3; axis++) turns[joint][axis] += change * turn[axis];
      }
      // actions that the jaw joint does have a morph too, for players without joints: it stays 0 here
      const weight = this.found[name] + (driven?.jaw ? 0 : change);
      if (!weight) continue;
      if (vertices === null) for (let i = 0; i < moves.length; i++) shown[i] += weight * moves[i];
      else for (let i = 0; i < vertices.length; i++) for (let axis = 0; axis < 3; axis++) shown[3 * vertices[i] + axis] += weight * moves[3 * i + axis];
    }
    this.#skin(turns, partner, mix);
    this.#shade();
  }

  #skin(turns, partner, mix) {
    const motions = [];
    this.file.skeleton.forEach((joint, index) => {
      const place = joint.place.map((value, axis) => value + (mix ? mix * (partner.file.skeleton[index].place[axis] - value) : 0));
      const turn = rotation(turns[joint.name]);
      const back = apply(turn, place);
      const own = { turn, move: place.map((value, axis) => value - back[axis]) };
      const parent = motions[joint.parent];
      motions.push(parent ? { turn: multiply(parent.turn, turn), move: apply(parent.turn, own.move).map((value, axis) => value + parent.move[axis]) } : own);
    });
    const { joints, weights } = this.file;
    for (let v = 0; v < this.count; v++) {
      const x = this.shown[3 * v], y = this.shown[3 * v + 1], z = this.shown[3 * v + 2];
      let px = 0, py = 0, pz = 0;
      for (let k = 4 * v; k < 4 * v + 4; k++) {
        const w = weights[k];
        if (!w) continue;
        const { turn: m, move } = motions[joints[k]];
        px += w * (m[0] * x + m[1] * y + m[2] * z + move[0]);
        py += w * (m[3] * x + m[4] * y + m[5] * z + move[1]);
        pz += w * (m[6] * x + m[7] * y + m[8] * z + move[2]);
      }
      this.positions[3 * v] = px; this.positions[3 * v + 1] = py; this.positions[3 * v + 2] = pz;
    }
  }

  /** Normals, shared by vertices that stand at one place on either side of a texture seam. */
  #shade() {
    const { positions: p, normals: n, welded } = this, { triangles } = this.file;
    n.fill(0);
    for (let t = 0; t < triangles.length; t += 3) {
      const a = 3 * triangles[t], b = 3 * triangles[t + 1], c = 3 * triangles[t + 2];
      const ux = p[b] - p[a], uy = p[b + 1] - p[a + 1], uz = p[b + 2] - p[a + 2];
      const vx = p[c] - p[a], vy = p[c + 1] - p[a + 1], vz = p[c + 2] - p[a + 2];
      const nx = uy * vz - uz * vy, ny = uz * vx - ux * vz, nz = ux * vy - uy * vx;
      for (const corner of [triangles[t], triangles[t + 1], triangles[t + 2]]) {
        const at = 3 * welded[corner];
        n[at] += nx; n[at + 1] += ny; n[at + 2] += nz;
      }
    }
    for (let v = 0; v < this.count; v++) {
      const at = 3 * welded[v];
      if (at === 3 * v) {
        const length = Math.hypot(n[at], n[at + 1], n[at + 2]) || 1;
        n[at] /= length; n[at + 1] /= length; n[at + 2] /= length;
      } else { // the first of a group stands before the others
        n[3 * v] = n[at]; n[3 * v + 1] = n[at + 1]; n[3 * v + 2] = n[at + 2];
      }
    }
  }
}

function weld(positions) {
  const first = new Map(), welded = new Uint32Array(positions.length / 3);
  for (let v = 0; v < welded.length; v++) {
    const key = `${positions[3 * v]} ${positions[3 * v + 1]} ${positions[3 * v + 2]}`;
    if (!first.has(key)) first.set(key, v);
    welded[v] = first.get(key);
  }
  return welded;
}
