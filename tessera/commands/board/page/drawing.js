// The board as a picture, in the signs and colours of the pictures that the program writes.
// Nothing is said by colour alone: likelier points have darker and larger discs of one hue.

const SPACE = "http://www.w3.org/2000/svg";
const UNLIKELY = [190, 212, 240];
const LIKELY = [8, 48, 112];
const LEAST_STRENGTH = 0.05;
const MOST_LABELS = 10; // of points below a percent
const LEAST_LABEL = 0.0005;
const SMALL = 26; // pixels between two lines, below which labels have no decimals
const LEAST_FONT = 9;

/** All points of a position, row by row, with what is known of each; `owners` is whose they are, and who says it. */
export function pointsOf(answer, owners, vertex) {
  const size = answer.board_size;
  const settled = {};
  for (const [colour, names] of Object.entries(answer.settled ?? {})) {
    for (const name of names) settled[name] = colour;
  }
  const points = [];
  for (let row = 0; row < size; row += 1) {
    for (let column = 0; column < size; column += 1) {
      const name = vertex(row, column, size);
      const chance = answer.probabilities[name];
      points.push({
        name,
        row,
        column,
        stone: { X: "black", O: "white" }[answer.board[row][column]] ?? null,
        isLegal: chance !== undefined,
        chance: chance ?? 0,
        settled: settled[name] ?? null,
        owner: owners ? owners.ownership[row][column] : null,
        saidBy: owners?.saidBy ?? null,
      });
    }
  }
  return points;
}

/** The colour of a disc, from 0 to 1, and its radius in parts of a cell. */
export function heat(strength) {
  const colour = UNLIKELY.map((low, index) => Math.round(low + strength * (LIKELY[index] - low)));
  return { fill: `rgb(${colour.join(" ")})`, radius: 0.16 + 0.3 * strength };
}

export class Picture {
  constructor(svg) {
    this.svg = svg;
  }

  /** Draw the points; `view` is map, owners, played or stones. */
  draw(points, { size, width, view, lastMove, highest, vertex }) {
    this.cell = width / (size + 0.55); // as the style sheet has it
    this.size = size;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${width}`);
    this.svg.replaceChildren();
    this.wood(points, vertex);
    const labelled = this.labelled(points);
    for (const point of points) {
      const [x, y] = this.place(point);
      if (point.stone) this.stone(point, x, y, lastMove, view);
      else this.empty(point, x, y, labelled.has(point.name), highest, view);
      if (isOfOwners(view)) this.owner(point, x, y);
    }
  }

  add(name, attributes, text) {
    const element = document.createElementNS(SPACE, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    this.svg.append(element);
  }

  place({ row, column }) {
    return [(column + 1) * this.cell, (row + 1) * this.cell];
  }

  square(kind, x, y, side) {
    this.add("rect", { class: kind, x: x - side / 2, y: y - side / 2, width: side, height: side });
  }

  words(kind, x, y, size, text) {
    this.add("text", { class: kind, x, y, "font-size": size }, text);
  }

  wood(points, vertex) {
    const { cell, size } = this;
    const middle = ((size + 1) * cell) / 2;
    this.square("wood", middle, middle, size * cell);
    for (const point of points) if (point.settled) this.square("settled", ...this.place(point), cell);
    const thin = Math.max(1, cell / 30);
    for (let index = 1; index <= size; index += 1) {
      const at = index * cell;
      this.add("line", { class: "grid-line", x1: cell, y1: at, x2: size * cell, y2: at, "stroke-width": thin });
      this.add("line", { class: "grid-line", x1: at, y1: cell, x2: at, y2: size * cell, "stroke-width": thin });
      const font = Math.max(LEAST_FONT, Math.min(0.38 * cell, 20));
      const name = vertex(index - 1, index - 1, size);
      this.words("coordinate", at, 0.25 * cell, font, name[0]);
      this.words("coordinate", 0.25 * cell, at, font, name.slice(1));
    }
    for (const row of starLines(size)) {
      for (const column of starLines(size)) {
        const [x, y] = this.place({ row, column });
        this.add("circle", { class: "star", cx: x, cy: y, r: 0.09 * cell });
      }
    }
  }

  stone(point, x, y, lastMove, view) {
    const { cell } = this;
    const grey = point.settled && !isOfOwners(view) ? " of-settled" : "";
    this.add("circle", {
      class: `stone ${point.stone}${grey}`, cx: x, cy: y, r: 0.435 * cell, "stroke-width": Math.max(1, 0.03 * cell),
    });
    if (point.settled && point.settled !== point.stone && !isOfOwners(view)) {
      this.square(`mark ${point.settled}`, x, y, 0.24 * cell);
    }
    if (point.name === lastMove) {
      const ring = point.stone === "black" ? "white" : "black";
      this.add("circle", { class: `ring ${ring}`, cx: x, cy: y, r: 0.2 * cell, "stroke-width": Math.max(1.5, 0.08 * cell) });
    }
  }

  empty(point, x, y, isLabelled, highest, view) {
    const { cell } = this;
    const strength = view === "map" ? strengthOf(point.chance, highest) : 0;
    if (strength) this.heat(point, x, y, strength, isLabelled);
    if (isOfOwners(view)) return;
    if (!point.isLegal) this.cross(x, y);
    else if (point.settled && !strength) this.square(`mark ${point.settled}`, x, y, 0.24 * cell);
  }

  heat(point, x, y, strength, isLabelled) {
    const { fill, radius } = heat(strength);
    const size = isLabelled ? Math.max(radius, 0.34) : radius;
    this.add("circle", { fill, cx: x, cy: y, r: size * this.cell });
    if (!isLabelled) return;
    const share = 100 * point.chance;
    const hasDecimals = share < 9.95 && this.cell >= SMALL;
    const font = this.cell < SMALL ? Math.max(LEAST_FONT, 0.56 * this.cell) : (hasDecimals ? 0.36 : 0.44) * this.cell;
    this.words(strength > 0.5 ? "on-dark" : "on-light", x, y, font, share.toFixed(hasDecimals ? 1 : 0));
  }

  cross(x, y) {
    const arm = 0.17 * this.cell;
    const d = `M${x - arm} ${y - arm}l${2 * arm} ${2 * arm}M${x - arm} ${y + arm}l${2 * arm} ${-2 * arm}`;
    this.add("path", { class: "illegal", d, "stroke-width": Math.max(1.5, 0.4 * arm) });
  }

  /** A square that is as large as its owner is sure, in his colour; not on his own stones. */
  owner(point, x, y) {
    const share = Math.abs(point.owner ?? 0);
    const isOwn = point.stone && point.stone === (point.owner > 0 ? "black" : "white");
    if (share < 0.05 || isOwn) return;
    this.square(`mark ${point.owner > 0 ? "black" : "white"}`, x, y, (0.08 + 0.42 * share) * this.cell);
  }

  /** The points above a percent, and if these are few the likeliest of the others. */
  labelled(points) {
    const isSmall = this.cell < SMALL;
    const order = points.filter((point) => point.isLegal).sort((one, two) => two.chance - one.chance);
    const least = (rank) => (isSmall ? 0.0095 : rank < MOST_LABELS ? LEAST_LABEL : 0.01);
    return new Set(order.filter((point, rank) => point.chance >= least(rank)).map((point) => point.name));
  }
}

/** Whether a view shows whose the points are, by the model or by playouts. */
export const isOfOwners = (view) => view === "owners" || view === "played";

function strengthOf(chance, highest) {
  const strength = Math.min(1, chance / highest) ** 0.5;
  return strength >= LEAST_STRENGTH ? strength : 0;
}

function starLines(size) {
  if (size < 7) return [];
  const edge = size < 12 ? 2 : 3;
  return size % 2 ? [edge, (size - 1) / 2, size - 1 - edge] : [edge, size - 1 - edge];
}
