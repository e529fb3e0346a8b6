// Reads the GLB files that TokenFace writes: one skinned, textured mesh with morph targets, and hair.

const COMPONENTS = { SCALAR: 1, VEC2: 2, VEC3: 3, VEC4: 4, MAT4: 16 };
const ARRAYS = { 5121: Uint8Array, 5123: Uint16Array, 5125: Uint32Array, 5126: Float32Array };

/** ArrayBuffer → { json, positions, uvs, triangles, joints, weights, morphs, skeleton, image, hair }. Throws on anything else. */
export function readGlb(buffer) {
  const view = new DataView(buffer);
  if (view.byteLength < 20 || view.getUint32(0, true) !== 0x46546c67) throw new Error("not a GLB file");
  const length = view.getUint32(12, true);
  const json = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 20, length)));
  const start = 20 + length + 8; // the binary chunk, behind its own header

  const array = (bufferView, type, count, offset = 0) => {
    const at = start + (json.bufferViews[bufferView].byteOffset ?? 0) + offset;
    return new ARRAYS[type](buffer.slice(at, at + count * ARRAYS[type].BYTES_PER_ELEMENT));
  };
  const dense = (index) => {
    const accessor = json.accessors[index];
    return array(accessor.bufferView, accessor.componentType, accessor.count * COMPONENTS[accessor.type], accessor.byteOffset ?? 0);
  };
  const morph = (index) => {
    const { sparse, count, bufferView } = json.accessors[index];
    if (bufferView !== undefined && bufferView !== null) return { vertices: null, moves: dense(index) };
    if (!sparse) return { vertices: new Uint16Array(0), moves: new Float32Array(0) };
    return {
      vertices: array(sparse.indices.bufferView, sparse.indices.componentType, sparse.count, sparse.indices.byteOffset ?? 0),
      moves: array(sparse.values.bufferView, 5126, sparse.count * 3, sparse.values.byteOffset ?? 0),
    };
  };

  const mesh = json.meshes[0], primitive = mesh.primitives[0], { attributes } = primitive;
  const names = mesh.extras?.targetNames ?? [];
  const picture = (index) => {
    const { bufferView, mimeType: type } = json.images[index], view = json.bufferViews[bufferView];
    const at = start + (view.byteOffset ?? 0);
    return new Blob([buffer.slice(at, at + view.byteLength)], { type });
  };
  return {
    json,
    positions: dense(attributes.POSITION),
    uvs: dense(attributes.TEXCOORD_0),
    triangles: dense(primitive.indices),
    joints: dense(attributes.JOINTS_0),
    weights: dense(attributes.WEIGHTS_0),
    morphs: (primitive.targets ?? []).map((target, i) => ({ name: names[i], weight: mesh.weights?.[i] ?? 0, ...morph(target.POSITION) })),
    skeleton: skeleton(json),
    image: picture(0),
    hair: hair(json, dense, picture),
  };
}

/** A mesh that stands still on the skull: { positions, normals, uvs, triangles, image }; null without one. */
function hair(json, dense, picture) {
  const primitive = json.meshes.find(({ name }) => name === "hair")?.primitives[0];
  if (!primitive) return null;
  const texture = json.materials[primitive.material].pbrMetallicRoughness.baseColorTexture.index;
  return {
    positions: dense(primitive.attributes.POSITION),
    normals: dense(primitive.attributes.NORMAL),
    uvs: dense(primitive.attributes.TEXCOORD_0),
    triangles: dense(primitive.indices),
    image: picture(json.textures[texture].source),
  };
}

/** Joints in the skin's order: name, parent (−1: none), place at rest in head space, rotation (quaternion) as stored. */
function skeleton(json) {
  const nodes = json.skins[0].joints;
  const joints = nodes.map((node) => ({
    name: json.nodes[node].name,
    parent: nodes.findIndex((other) => (json.nodes[other].children ?? []).includes(node)),
    place: [...(json.nodes[node].translation ?? [0, 0, 0])],
    rotation: json.nodes[node].rotation ?? [0, 0, 0, 1],
  }));
  for (const joint of joints) { // parents stand before their children
    if (joint.parent >= 0) joint.place = joint.place.map((value, axis) => value + joints[joint.parent].place[axis]);
  }
  return joints;
}
