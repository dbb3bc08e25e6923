// What stands beside the board: the likeliest moves, who wins, the moves and their variations.

import { capital, count, likeliest, ofBlack, percent, result } from "./words.js";

const MOST_LISTED = 10;

function element(name, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...children);
  return made;
}

/** The list of the likeliest moves, whose rows stay, so that the focus does too. */
export class Likeliest {
  constructor(list, play, look) {
    this.rows = [];
    for (let index = 0; index <= MOST_LISTED; index += 1) {
      const [name, chance, bar] = [element("b"), element("span"), element("i")];
      const button = element("button", { type: "button" }, name, chance, bar);
      button.addEventListener("click", () => play(button.dataset.move));
      button.addEventListener("pointerenter", () => look(button.dataset.move));
      button.addEventListener("focus", () => look(button.dataset.move));
      button.addEventListener("pointerleave", () => look(null));
      const item = element("li", {}, button);
      list.append(item);
      this.rows.push({ item, button, name, chance, bar });
    }
  }

  show(answer) {
    const moves = likeliest(answer);
    const shown = moves.filter(([name]) => name !== "pass").slice(0, MOST_LISTED);
    shown.push(["pass", answer.probabilities.pass]);
    const highest = moves[0][1];
    this.rows.forEach((row, index) => {
      const pair = shown[index];
      row.item.hidden = !pair;
      if (!pair) return;
      [row.button.dataset.move, row.name.textContent] = [pair[0], pair[0]];
      row.chance.textContent = percent(pair[1]);
      row.bar.style.width = `${(6 * pair[1]) / highest}rem`;
      row.button.title = `Play ${pair[0]}`;
    });
  }
}

function says(found, black, interval) {
  const [leader, share] = black.win >= 0.5 ? ["Black", black.win] : ["White", 1 - black.win];
  return `${found}${leader} wins ${percent(share)}${interval}, score ${result(black.score)}`;
}

export function showOutcome(answer, hasOutcome) {
  const share = document.getElementById("model-share");
  const text = document.getElementById("model-says");
  share.parentElement.hidden = !hasOutcome || answer.is_over;
  if (share.parentElement.hidden) {
    const none = "This model does not say who wins; playouts do.";
    text.textContent = answer.is_over ? "Nobody is asked: the game is over." : none;
    return;
  }
  const black = ofBlack(answer, answer.to_play);
  share.style.width = percent(black.win).replace(" ", "");
  text.textContent = says("The model: ", black, "");
}

export function showPlayouts(playedOut, toPlay, isOver) {
  const box = document.getElementById("by-playouts");
  box.hidden = !playedOut;
  if (!playedOut) return;
  const black = ofBlack(playedOut, toPlay);
  const ends = playedOut.win_interval.map((end) => (toPlay === "black" ? end : 1 - end)).sort((one, two) => one - two);
  document.getElementById("playouts-share").style.width = `${100 * black.win}%`;
  const interval = document.getElementById("playouts-interval");
  interval.style.left = `${100 * ends[0]}%`;
  interval.style.width = `${100 * (ends[1] - ends[0])}%`;
  const shown = (black.win >= 0.5 ? ends : [1 - ends[1], 1 - ends[0]]).map((end) => (100 * end).toFixed(1));
  if (isOver) {
    document.getElementById("playouts-say").textContent = says("Without dead stones ", black, "");
    return;
  }
  const text = says(`${count(playedOut.num_games)} playouts: `, black, ` (${shown[0]} to ${shown[1]})`);
  document.getElementById("playouts-say").textContent = `${text} ± ${playedOut.score_error.toFixed(1)}`;
}

/** The moves as buttons; variations are nested beside the move that they are an alternative to. */
export function showMoves(box, tree, goTo) {
  const hadFocus = box.contains(document.activeElement);
  const onLine = new Set();
  for (let place = tree.at; place; place = place.parent) onLine.add(place);
  box.replaceChildren(line(tree.root, true));
  const current = box.querySelector("[aria-current]");
  if (hadFocus) current.focus({ preventScroll: true });
  // Only within the box: the page itself stays where the reader is.
  const [frame, at] = [box.getBoundingClientRect(), current.getBoundingClientRect()];
  if (at.top < frame.top || at.bottom > frame.bottom) {
    box.scrollTop += at.top - frame.top - frame.height / 2;
  }

  function button(place) {
    const { ply, colour } = place;
    const made = element("button", { type: "button" });
    made.append(ply ? element("small", { textContent: ply }) : "", place.move ?? "Start");
    if (ply) made.setAttribute("aria-label", `${ply}, ${colour} ${place.move}`);
    made.className = ply ? colour : "start";
    if (onLine.has(place)) made.classList.add("on-line");
    if (place === tree.at) made.setAttribute("aria-current", "step");
    made.addEventListener("click", () => goTo(place));
    return made;
  }

  function line(first) {
    const made = element("div", { className: "line" });
    let place = first;
    while (place) {
      made.append(button(place));
      const before = place.parent;
      if (before && before.children[0] === place && before.children.length > 1) {
        const others = element("ul", { className: "variations" });
        others.setAttribute("aria-label", `Instead of ${place.move}`);
        for (const child of before.children.slice(1)) others.append(element("li", {}, line(child)));
        made.append(others);
      }
      [place] = place.children;
    }
    return made;
  }
}

const OWNERS = {
  model: "whose the point will be, says the model, larger where it is surer",
  playouts: "whose the point is after the playouts, larger where more of them agree",
  ending: "whose the point is, dead stones taken off",
};

/** What the signs on the board mean; `saidBy` is who says whose the points are. */
export function showLegend(list, view, answer, heat, saidBy) {
  const drawn = (strength) => {
    const { fill, radius } = heat(strength);
    return `<circle cx="12" cy="12" r="${24 * radius}" fill="${fill}"/>`;
  };
  const sign = (inside, width = 24) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${width} 24`);
    svg.setAttribute("aria-hidden", "true");
    svg.innerHTML = inside;
    return svg;
  };
  const [most] = likeliest(answer);
  const marks = '<rect class="wood" width="48" height="24"/><rect class="mark black" x="6" y="6" width="12" height="12"/>';
  const signs = {
    map: [
      [sign(`${drawn(0.1)}<g transform="translate(20)">${drawn(0.4)}</g><g transform="translate(46)">${drawn(1)}</g>`, 70), `unlikely to ${percent(most[1])}`],
      [sign('<path class="illegal" d="M7 7l10 10M7 17l10 -10" stroke-width="2.5"/>'), "illegal"],
      ...(answer.settled ? [[sign('<rect class="settled" x="2" y="2" width="20" height="20"/>'), "settled"]] : []),
      [sign('<circle class="ring black" cx="12" cy="12" r="6" stroke-width="2.5"/>'), "last move"],
    ],
    owners: [[sign(`${marks}<rect class="mark white" x="30" y="6" width="12" height="12"/>`, 48), OWNERS[saidBy]]],
  };
  signs.stones = signs.map.slice(1);
  signs.played = signs.owners;
  list.replaceChildren(...signs[view].map(([picture, text]) => element("li", {}, picture, text)));
}

export const sentence = (text) => (/[.!?]$/.test(text) ? capital(text) : `${capital(text)}.`);
