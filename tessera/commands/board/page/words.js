// Numbers and positions in words, for eyes and for screen readers.

const LETTERS = "ABCDEFGHJKLMNOPQRST"; // without I, which looks like 1 and J

export const vertex = (row, column, size) => `${LETTERS[column]}${size - row}`;
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
export const other = (colour) => (colour === "black" ? "white" : "black");
export const count = (number) => number.toLocaleString("en");

export function percent(chance) {
  return `${(100 * chance).toFixed(1)} %`;
}

/** Points by which black is ahead, as Go programs write them, such as W+3.5. */
export function result(score) {
  return `${score >= 0 ? "B" : "W"}+${Math.abs(score).toFixed(1)}`;
}

/** What is said of the player to move as black's: the share of wins, and the score. */
export function ofBlack(answer, toPlay) {
  const isBlack = toPlay === "black";
  return { win: isBlack ? answer.win : 1 - answer.win, score: isBlack ? answer.score : -answer.score };
}

/** Legal moves from the likeliest down, as pairs of vertex and chance; the pass is among them. */
export function likeliest(answer) {
  return Object.entries(answer.probabilities).sort((one, two) => two[1] - one[1]);
}

/** Everything that is known of a point. */
export function pointSays(name, point, lastMove) {
  const words = [name];
  if (point.stone) words.push(point.stone);
  else if (point.isLegal) words.push("empty");
  else words.push("illegal");
  if (point.isLegal) words.push(percent(point.chance));
  if (point.settled) words.push(`settled for ${point.settled}`);
  if (point.owner !== null && Math.abs(point.owner) >= 0.05) {
    const share = percent((1 + Math.abs(point.owner)) / 2);
    const how = { model: ` with ${share}, says the model`, playouts: ` in ${share} of the playouts`, ending: "" };
    words.push(`${point.owner > 0 ? "black" : "white"}’s${how[point.saidBy]}`);
  }
  if (name === lastMove) words.push("last move");
  return words.join(", ");
}

export function title(answer) {
  if (answer.is_over) return `The game is over: ${answer.result ? result(answer.result) : "a draw"} with dead stones taken off`;
  return capital(answer.title);
}

/** The move that led here and what is likeliest now, for the live region. */
export function spoken(answer) {
  const move = answer.last_move;
  const begin = move ? `${capital(other(answer.to_play))} ${move === "pass" ? "passes" : move}. ` : "";
  if (answer.is_over) return `${begin}${title(answer)}.`;
  const moves = likeliest(answer).slice(0, 3).map(([name, chance]) => `${name} ${percent(chance)}`);
  return `${begin}${capital(answer.to_play)} to play. Likeliest: ${moves.join(", ")}.`;
}
