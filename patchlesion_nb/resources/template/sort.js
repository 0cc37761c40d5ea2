/* Headers of a table become buttons that sort it: up, down, and as it was. What is not there stays last. */
(() => {
  const absent = new Set(["", "–", "-", "nan", "missing", "not legible", "unknown"]);
  const digits = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?(?=$|[\s%(])/i;
  const number = (text) => {
    const found = text.replace(/(\d),(?=\d{3})/g, "$1").replace(/^−/, "-").match(digits);
    return found ? Number(found[0]) : NaN;
  };
  const words = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  const next = { none: "ascending", ascending: "descending", descending: "none" };

  const keys = (rows, column) => {
    const texts = rows.map((row) => row.cells[column].textContent.trim());
    const there = texts.filter((text) => !absent.has(text.toLowerCase()));
    const numeric = there.length > 0 && !there.some((text) => Number.isNaN(number(text)));
    return texts.map((text) => absent.has(text.toLowerCase()) ? null : numeric ? number(text) : text);
  };
  const compare = (a, b) => (typeof a === "number" ? a - b : words.compare(a, b));

  const sorted = (rows, column, way) => {
    if (way === "none") return rows;
    const key = keys(rows, column), sign = way === "ascending" ? 1 : -1;
    const order = rows.map((_, place) => place).sort((a, b) =>
      (key[a] === null) - (key[b] === null) || (key[a] === null ? 0 : sign * compare(key[a], key[b])) || a - b);
    return order.map((place) => rows[place]);
  };

  for (const table of document.querySelectorAll("table")) {
    const heads = table.tHead && table.tHead.rows.length === 1 ? [...table.tHead.rows[0].cells] : [];
    const rows = table.tBodies.length === 1 ? [...table.tBodies[0].rows] : [];
    const even = rows.every((row) => row.cells.length === heads.length
      && [...row.cells].every((cell) => cell.colSpan === 1 && cell.rowSpan === 1));
    if (heads.length < 2 || rows.length < 3 || !even) continue;
    for (const [column, head] of heads.entries()) {
      if (!head.textContent.trim()) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const way = next[head.getAttribute("aria-sort")];
        for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", way);
        table.tBodies[0].append(...sorted(rows, column, way));
      });
    }
    if (table.caption) {
      const hint = document.createElement("span");
      hint.className = "unseen";
      hint.textContent = " Column headers are buttons that sort the table.";
      table.caption.append(hint);
    }
  }
})();
