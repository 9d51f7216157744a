// GLB (glTF 2.0, binary) to what a viewer draws: triangles with colours, and a picture where there is one.

const COMPONENTS = {
  5120: Int8Array,
  5121: Uint8Array,
  5122: Int16Array,
  5123: Uint16Array,
  5125: Uint32Array,
  5126: Float32Array,
};
const WIDTHS = { SCALAR: 1, VEC2: 2, VEC3: 3, VEC4: 4 };
const CHUNK_JSON = 0x4e4f534a;

// {positions, normals, colours, uvs: Float32Array, indices: Uint32Array, picture: Blob or null, factor: [r, g, b]}
function readGlb(buffer) {
  const head = new DataView(buffer);
  if (head.getUint32(0, true) !== 0x46546c67 || head.getUint32(16, true) !== CHUNK_JSON) throw new Error("no GLB");
  const jsonLength = head.getUint32(12, true);
  const gltf = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 20, jsonLength)));
  const binary = 20 + jsonLength + 8;
  const parts = (gltf.meshes ?? []).flatMap((mesh) => mesh.primitives).filter(({ mode = 4 }) => mode === 4);
  if (!parts.length) throw new Error("no triangles");
  const read = (index) => readAccessor(gltf, buffer, binary, index);
  const joined = join(parts.map((part) => readPart(part, read)));
  const material = gltf.materials?.[parts[0].material]?.pbrMetallicRoughness ?? {};
  const image = gltf.images?.[gltf.textures?.[material.baseColorTexture?.index]?.source];
  return { ...joined, factor: (material.baseColorFactor ?? [1, 1, 1]).slice(0, 3), picture: pictureOf(image) };

  function pictureOf(source) {
    if (source?.bufferView === undefined) return null;
    const view = gltf.bufferViews[source.bufferView];
    const bytes = new Uint8Array(buffer, binary + (view.byteOffset ?? 0), view.byteLength);
    return new Blob([bytes], { type: source.mimeType });
  }
}

// The numbers of an accessor as floats, those of normalised integers in [0, 1] or [-1, 1]; section 3.6.2 of glTF 2.0.
function readAccessor(gltf, buffer, binary, index) {
  const { bufferView, byteOffset = 0, componentType, count, type, normalized } = gltf.accessors[index];
  const view = gltf.bufferViews[bufferView];
  const Numbers = COMPONENTS[componentType];
  const width = WIDTHS[type];
  const size = Numbers.BYTES_PER_ELEMENT;
  const stride = view.byteStride ?? width * size;
  const start = binary + (view.byteOffset ?? 0) + byteOffset;
  // A copy, since an accessor need not begin where a typed array may.
  const bytes = buffer.slice(start, start + (count - 1) * stride + width * size);
  const largest = normalized ? 2 ** (8 * size - (Numbers.name.startsWith("I") ? 1 : 0)) - 1 : 1;
  if (stride % size) throw new Error("an odd stride");
  const all = new Numbers(bytes, 0, Math.floor(bytes.byteLength / size));
  const values = componentType === 5125 ? new Uint32Array(count * width) : new Float32Array(count * width);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < width; j++) values[i * width + j] = all[(i * stride) / size + j] / largest;
  }
  return { values, width, count };
}

function readPart({ attributes, indices }, read) {
  const positions = read(attributes.POSITION);
  const count = positions.count;
  const order =
    indices === undefined ? Uint32Array.from({ length: count }, (_, i) => i) : Uint32Array.from(read(indices).values);
  const colours = new Float32Array(count * 3).fill(1);
  if (attributes.COLOR_0 !== undefined) {
    const { values, width } = read(attributes.COLOR_0);
    for (let i = 0; i < count; i++) for (let j = 0; j < 3; j++) colours[3 * i + j] = values[width * i + j];
  }
  const normals =
    attributes.NORMAL === undefined ? normalsOf(positions.values, order) : read(attributes.NORMAL).values;
  const uvs = attributes.TEXCOORD_0 === undefined ? new Float32Array(count * 2) : read(attributes.TEXCOORD_0).values;
  return { positions: positions.values, normals, colours, uvs, indices: order };
}

// Of each vertex the mean over its triangles, the larger the weightier.
function normalsOf(positions, indices) {
  const normals = new Float32Array(positions.length);
  const at = (vertex) => [positions[3 * vertex], positions[3 * vertex + 1], positions[3 * vertex + 2]];
  for (let i = 0; i < indices.length; i += 3) {
    const corners = [indices[i], indices[i + 1], indices[i + 2]];
    const [a, b, c] = corners.map(at);
    const across = cross(minus(b, a), minus(c, a));
    for (const vertex of corners) for (let j = 0; j < 3; j++) normals[3 * vertex + j] += across[j];
  }
  return normals; // the shader gives them their length
}

function join(parts) {
  const all = (name) => {
    const joined = new parts[0][name].constructor(parts.reduce((sum, part) => sum + part[name].length, 0));
    let place = 0;
    for (const part of parts) {
      joined.set(part[name], place);
      place += part[name].length;
    }
    return joined;
  };
  let before = 0;
  for (const part of parts) {
    if (before) part.indices = part.indices.map((index) => index + before);
    before += part.positions.length / 3;
  }
  return Object.fromEntries(["positions", "normals", "colours", "uvs", "indices"].map((name) => [name, all(name)]));
}
