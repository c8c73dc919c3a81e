"use strict";
// ---- line charts tell the values under the pointer
for (const svg of document.querySelectorAll("svg[data-lines]")) {
  const { low, high, start, end, width, lines } = JSON.parse(svg.dataset.lines);
  const figure = svg.closest("figure");
  const guide = svg.querySelector(".guide");
  const texts = [...figure.querySelectorAll(".legend b")];
  const nearest = (xs, x) => xs.reduce((best, value, i) => (Math.abs(value - x) < Math.abs(xs[best] - x) ? i : best), 0);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const wanted = low + (((event.clientX - box.left) / box.width) * width - start) / (end - start) * (high - low);
    const all = lines.flatMap(([xs]) => xs);
    const x = all[nearest(all, wanted)];
    const values = lines.map(([xs, ys]) => (xs.includes(x) ? String(Number(ys[xs.indexOf(x)].toPrecision(3))) : ""));
    figure.querySelector(".at").textContent = `at ${x}${texts.length ? "" : `: ${values[0]}`}`;
    texts.forEach((text, i) => { text.textContent = values[i]; });
    const place = start + ((x - low) / (high - low || 1)) * (end - start);
    guide.setAttribute("x1", place);
    guide.setAttribute("x2", place);
    guide.setAttribute("visibility", "visible");
  });
  svg.addEventListener("pointerleave", () => {
    for (const text of [figure.querySelector(".at"), ...texts]) text.textContent = "";
    guide.setAttribute("visibility", "hidden");
  });
}

(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const find = (id) => document.getElementById(id);
  const dialog = find("viewer");
  if (!dialog) return;

  // ---- the list of cases
  const list = find("cards");
  const items = [...list.children];
  const score = (facts, name) => facts.scores[name] ?? (facts.estimate ? facts.estimate.dice : null);
  const hasTruth = (facts) => "" in facts.scores;
  find("filter-flagged").parentElement.hidden = !data.cases.some((facts) => facts.flagged);
  find("filter-score").parentElement.hidden = data.cases.every((facts) => score(facts, "") === null);

  function arrange() {
    const name = find("filter-class").value;
    const most = Number(find("filter-score").value);
    const wanted = find("filter-name").value.trim().toLowerCase();
    const flagged = find("filter-flagged").checked;
    find("score-value").textContent = most.toFixed(2);
    const factsOf = (item) => data.cases[Number(item.dataset.case)];
    const value = (item) => score(factsOf(item), name) ?? 2;
    // A case without a reference belongs to a class where its mask shows it.
    const isOfClass = (facts) => !name || hasTruth(facts) || facts.holds[name] !== "";
    let shown = 0;
    for (const item of [...items].sort((a, b) => value(a) - value(b) || a.dataset.case - b.dataset.case)) {
      const facts = factsOf(item);
      const known = score(facts, name);
      item.hidden = !(
        isOfClass(facts) && (known === null ? most === 1 : known <= most + 1e-9) &&
        facts.name.toLowerCase().includes(wanted) && (!flagged || facts.flagged)
      );
      shown += item.hidden ? 0 : 1;
      if (hasTruth(facts) && known !== null) item.querySelector(".score").textContent = known.toFixed(3);
      list.append(item);
    }
    find("count").textContent = `${shown} of ${items.length} cases`;
  }
  find("filters").addEventListener("input", arrange);
  find("filters").addEventListener("submit", (event) => event.preventDefault());
  arrange();

  // ---- the viewer: two canvases that move together
  const LAYERS = { left: ["image", "prediction", "disagreement"], right: ["image", "reference", "disagreement"] };
  const DISAGREEMENT = ["#000000", "#ff3d7f", "#2fe0e0", "#ffffff"];
  const RENDER = 4;
  let viewers = null;
  let current = -1;
  let request = 0;

  const numbers = (colours, at) => colours.map((colour) => parseInt(colour.slice(at, at + 2), 16));
  const labelColours = (colours) => ({
    R: numbers(colours, 1), G: numbers(colours, 3), B: numbers(colours, 5),
    A: colours.map((_, i) => (i ? 255 : 0)), I: colours.map((_, i) => i), labels: colours.map(() => ""),
  });
  // Objects of one class have numbers of colours, which tell those apart that touch.
  const shown = data.cases.some((facts) => facts.objects) ? data.colours : data.classes;
  const classColours = ["#000000", ...shown.map((_, i) => data.colours[i % data.colours.length])];

  function say(text) {
    find("viewer-message").textContent = text;
  }

  async function makeViewers() {
    const probe = document.createElement("canvas").getContext("webgl2");
    if (!probe) throw new Error("This browser has no WebGL 2, which the viewer needs. Try another browser or machine.");
    probe.getExtension("WEBGL_lose_context")?.loseContext();
    const make = async (id) => {
      const made = new niivue.Niivue({
        logLevel: "error", loadingText: "", dragAndDropEnabled: false, isRadiologicalConvention: true, sagittalNoseLeft: true,
        show3Dcrosshair: false, crosshairColor: [1, 1, 1, 0.55], crosshairWidth: 0.4, crosshairWidthUnit: "percent", backColor: [0, 0, 0, 1],
        isOrientationTextVisible: !data.are_pictures, multiplanarShowRender: 0, fontColor: [0.7, 0.75, 0.8, 1], isAntiAlias: true, viewModeHotKey: "", clipPlaneHotKey: "",
      });
      await made.attachToCanvas(find(id), true);
      return made;
    };
    const left = await make("canvas-prediction");
    const right = await make("canvas-reference");
    left.broadcastTo([right], { "2d": true, "3d": true });
    right.broadcastTo([left], { "2d": true, "3d": true });
    return { left, right };
  }

  async function volume(number, name) {
    const base64 = find(`volume-${number}-${name}`).textContent;
    const image = await niivue.NVImage.loadFromBase64({
      base64, name: `${name}.nii.gz`, colormap: "gray", opacity: 1,
      cal_min: 0, cal_max: name === "image" ? 255 : Math.max(3, classColours.length - 1),
    });
    if (name === "disagreement") image.setColormapLabel(labelColours(DISAGREEMENT));
    else if (name !== "image") image.setColormapLabel(labelColours(classColours));
    return image;
  }

  async function fill(viewer, layers, number, mine) {
    const images = [];
    for (const name of layers) images.push(await volume(number, name));
    if (mine !== request) return;
    while (viewer.volumes.length) viewer.removeVolumeByIndex(viewer.volumes.length - 1);
    for (const image of images) viewer.addVolume(image);
  }

  function layersOf(side) {
    return LAYERS[side].filter((name) => data.cases[current].volumes.includes(name));
  }

  function paint() {
    if (!viewers || dialog.dataset.state !== "ready") return;
    const strength = Number(find("opacity").value);
    const view = Number(dialog.querySelector("input[name=view]:checked").value);
    for (const side of ["left", "right"]) {
      const viewer = viewers[side];
      layersOf(side).forEach((name, i) => {
        const on = find(`show-${name}`).checked;
        const full = name === "image" || name === "disagreement" || view === RENDER ? 1 : strength;
        if (i < viewer.volumes.length) viewer.setOpacity(i, on ? full : 0);
      });
      viewer.setSliceType(view);
    }
    find("disagreement-key").hidden = !find("show-disagreement").checked || !hasReference();
  }

  // ---- the objects of a picture: outlined in the colour of their score, those that the sliders leave
  const SURE = [[0.5, [255, 61, 127]], [0.75, [255, 210, 61]], [1, [47, 224, 224]]];
  const MOST_ACROSS = 1600;
  let picture = null;

  async function unpacked(id) {
    const packed = Uint8Array.from(atob(find(id).textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new DataView(await new Response(stream).arrayBuffer());
  }

  // Pixels of the image's NIfTI, which starts at 352: bytes, or red, green and blue.
  function pixelsOf(nifti, count) {
    const channels = nifti.getInt16(70, true) === 128 ? 3 : 1;
    const pixels = new Uint8ClampedArray(4 * count).fill(255);
    for (let i = 0; i < count; i++) {
      for (let c = 0; c < 3; c++) pixels[4 * i + c] = nifti.getUint8(352 + i * channels + (channels === 3 ? c : 0));
    }
    return pixels;
  }

  async function readObjects(number) {
    const { height, width } = data.cases[number].objects;
    const [nifti, numbers] = await Promise.all([unpacked(`volume-${number}-image`), unpacked(`objects-${number}`)]);
    const labels = new Uint16Array(height * width).map((_, i) => numbers.getUint16(2 * i, true));
    const image = document.createElement("canvas");
    [image.width, image.height] = [width, height];
    image.getContext("2d").putImageData(new ImageData(pixelsOf(nifti, height * width), width, height), 0, 0);
    return { labels, image };
  }

  function colourOf(score) {
    if (score === null) return [255, 255, 255];
    const after = Math.max(1, SURE.findIndex(([from]) => score <= from));
    const [[low, first], [high, second]] = [SURE[after - 1], SURE[after]];
    const share = Math.min(1, Math.max(0, (score - low) / (high - low)));
    return first.map((value, c) => value + share * (second[c] - value));
  }

  function drawObjects() {
    const { height, width, numbers: known, areas, scores } = data.cases[current].objects;
    const sorted = [...areas].sort((a, b) => a - b);
    const share = Number(find("object-size").value);
    const least = share > 0 && sorted.length ? sorted[Math.round(share * (sorted.length - 1))] : 0;
    const surest = Number(find("object-score").value);
    const colours = new Map();
    known.forEach((number, i) => {
      if (areas[i] >= least && (scores[i] ?? 1) >= surest) colours.set(number, colourOf(scores[i]));
    });
    find("object-size-value").textContent = `${least} pixels`;
    find("object-score-value").textContent = surest.toFixed(2);
    find("object-count").textContent = `${colours.size} of ${known.length}`;
    const scale = Math.max(1, Math.min(4, Math.floor(MOST_ACROSS / Math.max(height, width))));
    const canvas = find("canvas-objects");
    [canvas.width, canvas.height] = [scale * width, scale * height];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    if (find("show-image").checked) context.drawImage(picture.image, 0, 0, canvas.width, canvas.height);
    if (!find("show-prediction").checked) return;
    const drawn = context.getImageData(0, 0, canvas.width, canvas.height);
    const at = (y, x) => (y < 0 || x < 0 || y >= canvas.height || x >= canvas.width ? 0
      : picture.labels[Math.floor(y / scale) * width + Math.floor(x / scale)]);
    for (let y = 0; y < canvas.height; y++) {
      for (let x = 0; x < canvas.width; x++) {
        const own = at(y, x);
        const colour = colours.get(own);
        if (!colour || (at(y - 1, x) === own && at(y + 1, x) === own && at(y, x - 1) === own && at(y, x + 1) === own)) continue;
        drawn.data.set([...colour, 255], 4 * (y * canvas.width + x));
      }
    }
    context.putImageData(drawn, 0, 0);
  }

  async function showObjects(number, mine) {
    const own = data.cases[number].objects;
    for (const part of dialog.querySelectorAll(".needs-objects")) part.hidden = !own;
    for (const part of dialog.querySelectorAll(".needs-object-scores")) part.hidden = !own || own.scores.every((score) => score === null);
    if (!own) return;
    const read = await readObjects(number);
    if (mine !== request) return;
    picture = read;
    drawObjects();
  }

  const hasReference = () => data.cases[current].volumes.includes("reference");

  function describe() {
    const facts = data.cases[current];
    find("viewer-name").textContent = facts.name;
    const row = (name, number) => {
      const item = document.createElement("li");
      if (number !== null) {
        const dot = document.createElement("i");
        dot.className = `k${(number % 8) + 1}`;
        item.append(dot);
      }
      item.append(name);
      return item;
    };
    const rows = data.scored.map(({ name, colour }) => {
      const holds = facts.holds[name] || "nothing";
      const own = facts.scores[name];
      const distance = facts.hd95[name] ? `, ${facts.hd95[name]}` : "";
      return row(`${name} ${own === undefined ? "" : `${data.title} ${own.toFixed(3)}${distance}, `}${holds}`, colour);
    });
    if (facts.estimate) {
      const { dice: estimate, low, high } = facts.estimate;
      const between = low === null || high === null ? "" : ` (${low.toFixed(2)}–${high.toFixed(2)})`;
      rows.push(row(`estimated Dice ${estimate.toFixed(2)}${between}`, null));
    }
    find("viewer-scores").replaceChildren(...rows);
    for (const part of dialog.querySelectorAll(".needs-reference")) part.hidden = !hasReference();
    const order = visible();
    const place = order.indexOf(current);
    find("previous").disabled = place <= 0;
    find("next").disabled = place < 0 || place === order.length - 1;
  }

  const visible = () => [...list.children].filter((item) => !item.hidden).map((item) => Number(item.dataset.case));

  async function open(number) {
    const mine = ++request;
    current = number;
    dialog.dataset.state = "loading";
    describe();
    if (!dialog.open) dialog.showModal();
    say("");
    try {
      await showObjects(number, mine);
      viewers ??= await makeViewers();
      await fill(viewers.left, layersOf("left"), number, mine);
      if (hasReference()) await fill(viewers.right, layersOf("right"), number, mine);
      if (mine !== request) return;
      for (const viewer of Object.values(viewers)) {
        if (viewer.volumes.length) viewer.scene.crosshairPos = viewer.mm2frac(data.cases[number].focus);
      }
      dialog.dataset.state = "ready";
      paint();
    } catch (error) {
      dialog.dataset.state = "failed";
      say(error.message);
    }
  }

  function step(by) {
    const order = visible();
    const next = order[order.indexOf(current) + by];
    if (next !== undefined) open(next);
  }

  list.addEventListener("click", (event) => {
    const item = event.target.closest("li");
    if (item && event.target.closest("button")) open(Number(item.dataset.case));
  });
  find("previous").addEventListener("click", () => step(-1));
  find("next").addEventListener("click", () => step(1));
  find("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    list.querySelector(`li[data-case="${current}"] button`)?.focus();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "n") step(1);
    if (event.key === "p") step(-1);
  });
  dialog.querySelector(".tools").addEventListener("input", (event) => {
    // In 3D the image is a fog around the masks: it is shown when asked for.
    if (event.target.name === "view") find("show-image").checked = Number(event.target.value) !== RENDER;
    paint();
    if (picture && data.cases[current].objects) drawObjects();
  });
})();
