// A mesh that turns, drawn when it has to be.

const FIELD_OF_VIEW = (35 * Math.PI) / 180; // vertical, as in the lab's own pictures
const HOME = { azimuth: 30, elevation: 18, zoom: 1 };
const SPIN = 24; // degrees a second, until somebody takes hold of it

class Viewer {
  // spin: turns by itself. held: answers to mouse, touch and keys. Throws where there is no WebGL 2.
  constructor(mesh, { label, spin = false, held = true, onview = null }) {
    this.canvas = h("canvas", {
      class: "viewer",
      ...(held ? { tabindex: 0, role: "application", "aria-label": label } : { "aria-hidden": "true" }),
    });
    this.gl = this.canvas.getContext("webgl2", { antialias: true, alpha: true });
    if (!this.gl) throw new Error("no WebGL 2");
    this.view = { ...HOME };
    this.onview = onview;
    this.spinning = spin && !calm.matches;
    this.measure(mesh);
    this.upload(mesh);
    this.observer = new ResizeObserver(() => this.ask());
    this.observer.observe(this.canvas);
    if (held) this.listen();
    this.ask();
  }

  measure({ positions }) {
    const low = [Infinity, Infinity, Infinity],
      high = [-Infinity, -Infinity, -Infinity];
    for (let i = 0; i < positions.length; i++) {
      low[i % 3] = Math.min(low[i % 3], positions[i]);
      high[i % 3] = Math.max(high[i % 3], positions[i]);
    }
    this.middle = low.map((value, axis) => (value + high[axis]) / 2);
    this.half = low.map((value, axis) => (high[axis] - value) / 2);
    this.radius = 0;
    for (let i = 0; i < positions.length; i += 3) {
      const away = Math.hypot(...minus(positions.subarray(i, i + 3), this.middle));
      this.radius = Math.max(this.radius, away);
    }
    this.radius ||= 1;
  }

  upload(mesh) {
    const { gl } = this;
    this.body = program(gl, VERTEX, FRAGMENT);
    this.shadow = program(gl, SHADOW_VERTEX, SHADOW_FRAGMENT);
    this.mesh = vertexArray(
      gl,
      this.body,
      {
        position: [mesh.positions, 3],
        normal: [mesh.normals, 3],
        colour: [mesh.colours, 3],
        uv: [mesh.uvs, 2],
      },
      mesh.indices,
    );
    this.ground = vertexArray(gl, this.shadow, { corner: [new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), 2] });
    this.count = mesh.indices.length;
    this.factor = mesh.factor;
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texImage2D(
      gl.TEXTURE_2D,
      0,
      gl.RGBA,
      1,
      1,
      0,
      gl.RGBA,
      gl.UNSIGNED_BYTE,
      new Uint8Array([255, 255, 255, 255]),
    );
    if (mesh.picture) {
      createImageBitmap(mesh.picture).then((picture) => {
        gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, picture);
        gl.generateMipmap(gl.TEXTURE_2D);
        this.ask();
      });
    }
  }

  // Asks for a picture at the browser's next chance.
  ask() {
    this.request ??= requestAnimationFrame((now) => {
      this.request = null;
      if (this.spinning) {
        this.view.azimuth += SPIN * Math.min(0.1, (now - (this.last ?? now)) / 1000);
        this.last = now;
      }
      this.draw();
      if (this.spinning) this.ask();
    });
  }

  draw() {
    const { gl, canvas, view } = this;
    const scale = Math.min(2, devicePixelRatio);
    const width = Math.round(canvas.clientWidth * scale),
      height = Math.round(canvas.clientHeight * scale);
    if (!width || !height || gl.isContextLost()) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const narrow = Math.atan(Math.tan(FIELD_OF_VIEW / 2) * Math.min(1, width / height));
    const distance = (this.radius * 1.06) / Math.sin(narrow) / view.zoom;
    const projection = perspective(FIELD_OF_VIEW, width / height, distance / 50, distance + 4 * this.radius);
    const turned = orbit(this.middle, view.azimuth, view.elevation, distance);
    this.drawShadow(turned, projection);
    gl.useProgram(this.body);
    gl.enable(gl.DEPTH_TEST);
    gl.disable(gl.BLEND);
    gl.uniformMatrix4fv(gl.getUniformLocation(this.body, "view"), false, turned);
    gl.uniformMatrix4fv(gl.getUniformLocation(this.body, "projection"), false, projection);
    gl.uniform3fv(gl.getUniformLocation(this.body, "factor"), this.factor);
    gl.bindVertexArray(this.mesh);
    gl.drawElements(gl.TRIANGLES, this.count, gl.UNSIGNED_INT, 0);
  }

  // A soft dark spot below; seen from underneath it is not there.
  drawShadow(turned, projection) {
    const { gl } = this;
    const strength = 0.34 * Math.min(1, Math.max(0, (this.view.elevation + 2) / 16));
    if (!strength) return;
    gl.useProgram(this.shadow);
    gl.disable(gl.DEPTH_TEST);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA); // colours are premultiplied
    const [x, y, z] = this.middle;
    gl.uniformMatrix4fv(gl.getUniformLocation(this.shadow, "view"), false, turned);
    gl.uniformMatrix4fv(gl.getUniformLocation(this.shadow, "projection"), false, projection);
    gl.uniform3f(gl.getUniformLocation(this.shadow, "middle"), x, y - this.half[1] - 0.01 * this.radius, z);
    const reach = 0.3 * this.radius;
    gl.uniform3f(gl.getUniformLocation(this.shadow, "reach"), this.half[0] + reach, 0, this.half[2] + reach);
    gl.uniform1f(gl.getUniformLocation(this.shadow, "strength"), strength);
    gl.bindVertexArray(this.ground);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }

  // Shows another view, and tells of it unless `quietly`.
  turn(change, quietly = false) {
    Object.assign(this.view, change);
    this.view.elevation = Math.max(-89, Math.min(89, this.view.elevation));
    this.view.zoom = Math.max(0.4, Math.min(8, this.view.zoom));
    this.spinning = false;
    this.ask();
    if (!quietly) this.onview?.(this.view);
  }

  listen() {
    const { canvas, view } = this;
    const pointers = new Map();
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, event);
      this.turn({});
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const dx = event.clientX - before.clientX,
        dy = event.clientY - before.clientY;
      const others = [...pointers.values()].filter((other) => other.pointerId !== event.pointerId);
      pointers.set(event.pointerId, event);
      if (!others.length)
        return this.turn({ azimuth: view.azimuth - dx * 0.5, elevation: view.elevation + dy * 0.5 });
      const apart = (one) => Math.hypot(one.clientX - others[0].clientX, one.clientY - others[0].clientY) || 1;
      this.turn({ zoom: (view.zoom * apart(event)) / apart(before) });
    });
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
    }
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.turn({ zoom: view.zoom * Math.exp(-event.deltaY * 0.0012) });
      },
      { passive: false },
    );
    canvas.addEventListener("dblclick", () => this.turn(HOME));
    const keys = {
      ArrowLeft: () => ({ azimuth: view.azimuth - 10 }),
      ArrowRight: () => ({ azimuth: view.azimuth + 10 }),
      ArrowUp: () => ({ elevation: view.elevation + 10 }),
      ArrowDown: () => ({ elevation: view.elevation - 10 }),
      "+": () => ({ zoom: view.zoom * 1.2 }),
      "=": () => ({ zoom: view.zoom * 1.2 }),
      "-": () => ({ zoom: view.zoom / 1.2 }),
      0: () => HOME,
    };
    canvas.addEventListener("keydown", (event) => {
      if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      this.turn(keys[event.key]());
    });
  }

  // Gives the context back: a browser has about sixteen for all pages.
  dispose() {
    cancelAnimationFrame(this.request);
    this.spinning = false;
    this.observer.disconnect();
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
    this.canvas.remove();
  }
}
