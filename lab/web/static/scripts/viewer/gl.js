// What a viewer hands to WebGL 2: shaders, arrays of vertices, matrices; and a little geometry.
// Like the lab's own renders, light multiplies display-referred colours, with numbers near those of its turntables:
// a soft key light that stays with the camera, a fill, and the sky.

const VERTEX = `#version 300 es
uniform mat4 view, projection;
in vec3 position, normal, colour;
in vec2 uv;
out vec3 n, up, c;
out vec2 t;
void main() {
  gl_Position = projection * view * vec4(position, 1.0);
  n = mat3(view) * normal;
  up = normal;
  c = colour;
  t = uv;
}`;
const FRAGMENT = `#version 300 es
precision highp float;
uniform sampler2D picture;
uniform vec3 factor;
in vec3 n, up, c;
in vec2 t;
out vec4 pixel;
void main() {
  float side = gl_FrontFacing ? 1.0 : -1.0;
  vec3 m = normalize(n) * side;
  float sky = 0.5 + 0.5 * normalize(up).y * side;
  float key = max(0.0, dot(m, normalize(vec3(-0.35, 0.75, 0.75))));
  float fill = max(0.0, dot(m, normalize(vec3(0.9, 0.1, 0.4))));
  vec3 linear = pow(texture(picture, t).rgb, vec3(2.2)) * c * factor;
  vec3 shown = pow(clamp(linear, 0.0, 1.0), vec3(1.0 / 2.2));
  pixel = vec4(shown * (0.3 + 0.12 * sky + 0.58 * key + 0.1 * fill), 1.0);
}`;
const SHADOW_VERTEX = `#version 300 es
uniform mat4 view, projection;
uniform vec3 middle, reach;
in vec2 corner;
out vec2 p;
void main() {
  p = corner;
  gl_Position = projection * view * vec4(middle + reach * vec3(corner.x, 0.0, corner.y), 1.0);
}`;
const SHADOW_FRAGMENT = `#version 300 es
precision highp float;
uniform float strength;
in vec2 p;
out vec4 pixel;
void main() {
  float near = max(0.0, 1.0 - length(p));
  pixel = vec4(0.0, 0.0, 0.0, strength * near * near);
}`;

function program(gl, vertex, fragment) {
  const made = gl.createProgram();
  for (const [kind, source] of [
    [gl.VERTEX_SHADER, vertex],
    [gl.FRAGMENT_SHADER, fragment],
  ]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  return made;
}

function vertexArray(gl, made, attributes, indices) {
  const array = gl.createVertexArray();
  gl.bindVertexArray(array);
  for (const [name, [values, width]] of Object.entries(attributes)) {
    const place = gl.getAttribLocation(made, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, width, gl.FLOAT, false, 0, 0);
  }
  if (indices) {
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, indices, gl.STATIC_DRAW);
  }
  return array;
}

// Matrices column by column, as WebGL takes them.
function perspective(fieldOfView, aspect, near, far) {
  const f = 1 / Math.tan(fieldOfView / 2);
  return [
    f / aspect,
    0,
    0,
    0,
    0,
    f,
    0,
    0,
    0,
    0,
    (far + near) / (near - far),
    -1,
    0,
    0,
    (2 * far * near) / (near - far),
    0,
  ];
}

// The view of a camera round `middle`: azimuth 0 sees the front (+z), 90 the side (+x); degrees.
function orbit(middle, azimuth, elevation, distance) {
  const a = (azimuth * Math.PI) / 180,
    e = (elevation * Math.PI) / 180;
  const back = [Math.sin(a) * Math.cos(e), Math.sin(e), Math.cos(a) * Math.cos(e)];
  const right = unit(cross([0, 1, 0], back));
  const up = cross(back, right);
  const eye = middle.map((value, axis) => value + distance * back[axis]);
  return [
    right[0],
    up[0],
    back[0],
    0,
    right[1],
    up[1],
    back[1],
    0,
    right[2],
    up[2],
    back[2],
    0,
    -dot(right, eye),
    -dot(up, eye),
    -dot(back, eye),
    1,
  ];
}

const minus = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const unit = (a) => {
  const length = Math.hypot(...a) || 1;
  return a.map((x) => x / length);
};
