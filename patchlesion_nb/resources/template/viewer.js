/* The page of crops: what each row says of each crop of an image, and of the average without some of them. */
const softmax = (logits) => {
  const top = Math.max(...logits), powers = logits.map((logit) => Math.exp(logit - top));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
};
const mean = (rows) => rows[0].map((_, k) => rows.reduce((sum, row) => sum + row[k], 0) / rows.length);
const highest = (values) => values.indexOf(Math.max(...values));

/* As `reduce_crops` in Python; null where no crop is left */
const pooled = (logits, reduce, muted = []) => {
  const heard = logits.filter((_, crop) => !muted.includes(crop));
  if (!heard.length) return null;
  if (reduce === "logits") return softmax(mean(heard));
  const said = heard.map(softmax), shares = mean(said);
  if (reduce === "probabilities") return shares;
  const ballots = said.map(highest);
  return shares.map((share, k) => (ballots.filter((ballot) => ballot === k).length + share) / (said.length + 1));
};

/* Texts become text nodes, so that no name from the data is read as HTML */
const make = (name, attributes = {}, ...children) => {
  const svg = ["svg", "image", "rect", "text"].includes(name) && "http://www.w3.org/2000/svg";
  const made = svg ? document.createElementNS(svg, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};
const percent = (share) => (100 * share).toFixed(1);

const start = () => {
  const { classes, size: [height, width], rows, images } = JSON.parse(document.getElementById("stored").textContent);
  const [choice, network, place] = ["image", "network", "rows"].map((id) => document.getElementById(id));

  const drawing = (box, picture, attributes, ...children) => {
    const pixels = picture ? [make("image", { href: picture, width, height, preserveAspectRatio: "none" })] : [];
    return make("svg", { viewBox: box.join(" "), ...attributes }, ...pixels, ...children);
  };
  const outlined = (row, image, weights, muted) => {
    const best = weights ? highest(weights) : -1, [thin, middle] = [width / 200, { "stroke-width": height / 80 }];
    const boxes = row.boxes.map(([left, top, wide, high], crop) => make("rect", {
      x: left, y: top, width: wide, height: high, "stroke-width": crop === best ? 4 * thin : thin,
      "stroke-dasharray": muted.includes(crop) ? `${4 * thin}` : "none" }));
    const names = row.boxes.flatMap(([left, top, wide, high], crop) => {
      const x = left + wide / 2, y = top + high / 2, weight = weights ? [weights[crop].toFixed(2)] : [];
      return [`${crop + 1}`, ...weight].map((text, k) => make("text", { x, y: y + k * height / 11,
        "font-size": height / (k ? 16 : 11), ...middle }, text));
    });
    const most = weights ? ` The highest weight has crop ${highest(weights) + 1}.` : "";
    const alt = `${image.picture ? "Image" : "Place of the crops in image"} ${image.id}: crops ${
      row.boxes.length > 1 ? `1 to ${row.boxes.length}` : "1"}.${most}`;
    return make("figure", {}, drawing([0, 0, width, height], image.picture, { role: "img", "aria-label": alt },
      ...boxes, ...names));
  };

  const line = (head, cells, probabilities) => {
    const best = probabilities ? highest(probabilities) : -1;
    const shares = classes.map((_, k) => {
      const text = probabilities ? percent(probabilities[k]) : "–";
      return make("td", { class: "number" }, k === best ? make("strong", {}, text) : text);
    });
    return make("tr", {}, make("th", { scope: "row" }, ...head),
      ...cells.map((text) => make("td", { class: "number" }, text)), ...shares);
  };
  const card = (row, said, image, number) => {
    const muted = [], together = pooled(said.logits, row.reduce), blocks = Object.keys(said.weights);
    const title = rows.some((other) => other.network !== row.network) ? `${row.name}, ${row.network}` : row.name;
    const figure = make("div"), body = make("tbody"), foot = make("tfoot"), told = make("p", { role: "status" });
    const refresh = () => {
      figure.replaceChildren(outlined(row, image, said.weights[blocks.at(-1)], muted));
      const left = pooled(said.logits, row.reduce, muted), names = muted.map((crop) => crop + 1).sort((a, b) => a - b);
      const dashes = blocks.map(() => "–"), without = `Without ${names.join(", ")}`;
      foot.replaceChildren(line(["All crops"], dashes, together), ...muted.length ? [line([without], dashes, left)] : []);
      const says = (shares) => (shares ? `${classes[highest(shares)]}, ${percent(Math.max(...shares))} %` : "nothing, no crop is left");
      const changed = muted.length ? ` ${without}: ${says(left)}.` : "";
      told.replaceChildren(`Says ${says(together)}; ${highest(together) === image.target ? "right" : "wrong"}.${changed}`);
    };
    row.boxes.forEach((box, crop) => {
      const button = make("button", { type: "button", "aria-pressed": "false" }, `Mute ${crop + 1}`);
      const seen = image.picture ? [drawing(box, image.picture, { class: "crop", "aria-hidden": "true" })] : [];
      const cells = blocks.map((block) => said.weights[block][crop].toFixed(3));
      body.append(line([...seen, row.muting ? button : `${crop + 1}`], cells,
        said.logits.length === row.boxes.length ? softmax(said.logits[crop]) : null));
      button.addEventListener("click", () => {
        if (muted.includes(crop)) muted.splice(muted.indexOf(crop), 1); else muted.push(crop);
        button.setAttribute("aria-pressed", muted.includes(crop));
        refresh();
      });
    });
    refresh();
    const heads = ["Crop", ...blocks.map((block) => `weight: ${block.replace("_attention", "")}`),
      ...classes.map((name, k) => (k === image.target ? `${name} (true)` : name))];
    const table = make("table", {}, make("caption", {}, "Probabilities in percent"), make("thead", {},
      make("tr", {}, ...heads.map((text) => make("th", { scope: "col", class: text === "Crop" ? "" : "number" }, text)))), body, foot);
    return make("section", { "aria-labelledby": `row-${number}` }, make("h2", { id: `row-${number}` }, title), told,
      make("p", {}, row.rule), figure,
      make("div", { class: "box", tabindex: 0, role: "region", "aria-label": `Table of ${title}` }, table));
  };
  const show = () => {
    const image = images[choice.value];
    const shown = rows.flatMap((row, k) => (row.network === network.value ? [card(row, image.rows[k], image, k)] : []));
    place.replaceChildren(...shown);
  };

  classes.forEach((name, target) => {
    const own = images.flatMap((image, k) => (image.target === target ? [make("option", { value: k }, image.id)] : []));
    if (own.length) choice.append(make("optgroup", { label: `${name}: ${own.length}` }, ...own));
  });
  const labels = [...new Set(rows.map((row) => row.network))];
  network.append(...labels.map((label) => make("option", {}, label)));
  network.parentElement.hidden = labels.length < 2;
  for (const [id, step] of [["previous", -1], ["next", 1]]) document.getElementById(id).addEventListener("click", () => {
    choice.selectedIndex = (choice.selectedIndex + step + images.length) % images.length;
    show();
  });
  for (const select of [choice, network]) select.addEventListener("change", show);
  choice.selectedIndex = 0;
  show();
};
if (typeof document === "object") start();
