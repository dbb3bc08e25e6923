// The points of the board as a grid of cells over the picture: clicked, focused, read aloud.

import { pointSays } from "./words.js";

const TOUCHABLE = 28; // pixels; on smaller points a finger first chooses, then plays

export class Grid {
  /**
   * @param element of the role grid, empty.
   * @param size of the board.
   * @param play called with the name of the point that is to be played.
   * @param look called with the point that the pointer or the focus is on, null for none.
   */
  constructor(element, size, play, look) {
    this.element = element;
    this.size = size;
    this.play = play;
    this.look = look;
    this.points = [];
    this.at = Math.floor(size / 2) * (size + 1);
    this.cells = [];
    this.fill();
    element.addEventListener("click", (event) => this.clicked(event));
    element.addEventListener("keydown", (event) => this.pressed(event));
    element.addEventListener("pointerover", (event) => this.look(this.pointAt(event.target)));
    element.addEventListener("pointerleave", () => this.look(null));
    element.addEventListener("focusin", (event) => this.focused(event.target));
  }

  fill() {
    const { element, size } = this;
    element.setAttribute("aria-label", `Board, ${size} by ${size}`);
    for (let row = 0; row < size; row += 1) {
      const line = document.createElement("div");
      line.setAttribute("role", "row");
      for (let column = 0; column < size; column += 1) {
        const cell = document.createElement("div");
        cell.setAttribute("role", "gridcell");
        cell.tabIndex = this.cells.length === this.at ? 0 : -1;
        cell.dataset.index = this.cells.length;
        this.cells.push(cell);
        line.append(cell);
      }
      element.append(line);
    }
  }

  /** Show these points; `turn` is who plays next. */
  show(points, lastMove, turn) {
    this.points = points;
    this.element.dataset.turn = turn;
    points.forEach((point, index) => {
      const cell = this.cells[index];
      cell.dataset.vertex = point.name;
      cell.classList.toggle("playable", point.isLegal);
      cell.setAttribute("aria-label", pointSays(point.name, point, lastMove));
    });
  }

  pointAt(target) {
    const cell = target.closest("[data-index]");
    return cell ? this.points[cell.dataset.index] : null;
  }

  clicked(event) {
    const point = this.pointAt(event.target);
    if (!point) return;
    const cell = this.cells[this.points.indexOf(point)];
    const isSmall = cell.getBoundingClientRect().width < TOUCHABLE;
    if (event.pointerType === "touch" && isSmall && !cell.classList.contains("chosen")) {
      this.choose(cell);
      return;
    }
    this.play(point.name);
  }

  choose(cell) {
    for (const each of this.cells) each.classList.toggle("chosen", each === cell);
    if (!cell) return;
    cell.focus({ preventScroll: true });
    this.look(this.points[this.at]);
  }

  get chosen() {
    const index = this.cells.findIndex((cell) => cell.classList.contains("chosen"));
    return index < 0 ? null : this.points[index];
  }

  focused(target) {
    this.cells[this.at].tabIndex = -1;
    this.at = Number(target.dataset.index);
    target.tabIndex = 0;
    this.look(this.points[this.at] ?? null);
  }

  focus() {
    this.cells[this.at].focus();
  }

  pressed(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const { size, at } = this;
    const [row, column] = [Math.floor(at / size), at % size];
    const targets = {
      ArrowUp: row > 0 ? at - size : at,
      ArrowDown: row < size - 1 ? at + size : at,
      ArrowLeft: column > 0 ? at - 1 : at,
      ArrowRight: column < size - 1 ? at + 1 : at,
      Home: row * size,
      End: row * size + size - 1,
    };
    if (event.key in targets) this.cells[targets[event.key]].focus();
    else if (event.key === "Enter" || event.key === " ") this.play(this.points[at].name);
    else return;
    event.preventDefault();
  }
}
