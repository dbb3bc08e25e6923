// The questions to the program that serves this page. The address of each begins with the page's.

export class Refused extends Error {}

async function asked(name, options) {
  let response;
  try {
    response = await fetch(name, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The program does not answer: has it ended?");
  }
  if (!response.ok) throw new Refused((await response.text()).trim().split("\n").pop());
  return response;
}

function posted(question, signal) {
  const headers = { "Content-Type": "application/json" };
  return { method: "POST", headers, body: JSON.stringify(question), signal };
}

const answered = async (name, options) => (await asked(name, options)).json();

export const settings = () => answered("settings");
// A line is its moves and its start, see Place.line.
export const map = (line) => answered("map", posted(line));
export const move = (line, temperature) => answered("move", posted({ ...line, temperature }));
export const playouts = (line, num_games, signal) =>
  answered("playouts", posted({ ...line, num_games }, signal));
export const save = async (tree, start) => (await asked("save", posted({ tree, start }))).blob();
export const load = (file) =>
  answered("load", { method: "POST", headers: { "Content-Type": "application/x-go-sgf" }, body: file });
