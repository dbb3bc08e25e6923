// The page: what is looked at, what is asked of the program, what is shown of its answers.

import { Picture, heat, pointsOf } from "./drawing.js";
import { Grid } from "./grid.js";
import { Likeliest, sentence, showLegend, showMoves, showOutcome, showPlayouts } from "./panels.js";
import * as server from "./server.js";
import { Place, Tree } from "./tree.js";
import { count, likeliest, pointSays, spoken, title, vertex } from "./words.js";

const PAUSE_MS = 500; // between two moves of the model, so that they can be followed

const find = (id) => document.getElementById(id);
let tree = new Tree();
let putBack = null;
let lookedAt = null; // the name of the point that the pointer or the focus is on
let playing = null; // what stops the playouts that are being waited for
let work = Promise.resolve(); // one thing after the other, in the order of the clicks

const settings = await server.settings().catch((error) => {
  say(error.message);
  throw error;
});
const picture = new Picture(find("picture"));
const grid = new Grid(find("grid"), settings.board_size, (name) => later(() => play(name)), look);
const listed = new Likeliest(find("likeliest"), (name) => later(() => play(name)), (name) => {
  look(grid.points.find((point) => point.name === name) ?? null);
});

/** Do this when everything before is done; what is refused is said. */
function later(task) {
  work = work.then(task).catch((error) => {
    if (!(error instanceof server.Refused)) console.error(error);
    say(error.message);
  });
  return work;
}

function say(text) {
  find("message-text").textContent = sentence(text);
  find("message").hidden = false;
}

function beQuiet() {
  find("message").hidden = true;
}

/** Let something be put back that is no longer there. */
function keep(back) {
  putBack = back;
  find("put-back").disabled = !back;
}

// Moving about.

/** Look at a place; what the program says of it is asked for once. */
async function goTo(place) {
  place.answer ??= await server.map(place.line());
  stopPlayouts();
  beQuiet();
  tree.goTo(place);
  grid.choose(null);
  show();
  find("spoken").textContent = spoken(place.answer);
}

async function play(move) {
  const { at } = tree;
  const known = at.children.find((each) => each.move === move);
  const place = known ?? new Place(at, move);
  place.answer ??= await server.map(place.line()); // an illegal move ends here
  if (!known) at.children.push(place);
  await goTo(place);
  answerIfAsked();
}

async function goToChild() {
  if (tree.at.next) await goTo(tree.at.next);
}

async function goToParent() {
  if (tree.at.parent) await goTo(tree.at.parent);
}

/** The next of the moves that were tried at the same place. */
async function goToVariation() {
  const places = tree.at.parent?.children ?? [tree.at];
  await goTo(places[(places.indexOf(tree.at) + 1) % places.length]);
}

async function takeBack() {
  const { at } = tree;
  if (!at.parent) return;
  await goTo(at.parent);
  tree.goTo(at);
  const restore = tree.cut();
  show();
  const more = at.size ? ` and ${count(at.size)} after it` : "";
  say(`Move ${at.ply}, ${at.move}${more} taken back`);
  keep(() => goTo(restore()));
}

/** Take another game in the place of this one, which can be put back. */
async function begin(next, place) {
  const [before, at] = [tree, tree.at];
  place.answer ??= await server.map(place.line());
  tree = next;
  await goTo(place);
  if (before.root.children.length || before.root.start) keep(() => begin(before, at));
}

async function beginAnew() {
  const fresh = new Tree();
  await begin(fresh, fresh.root);
  answerIfAsked();
}

async function bringBack() {
  const back = putBack;
  keep(null);
  await back?.();
}

// The model as a player.

/** Let the model answer if it plays the colour whose turn it is; only where a line ends. */
function answerIfAsked() {
  const { at } = tree;
  const sides = find("sides").value;
  const isModels = sides === "both" || sides === at.answer.to_play;
  if (!isModels || at.answer.is_over || at.children.length) return;
  const isHers = at.parent && sides === "both";
  setTimeout(() => {
    if (tree.at === at && !at.children.length && find("sides").value === sides) later(() => letModelPlay(at));
  }, isHers ? PAUSE_MS : 0);
}

async function letModelPlay(from = tree.at) {
  if (tree.at !== from) return;
  const { move } = await server.move(from.line(), Number(find("temperature").value));
  await play(move);
}

// Playouts, which nothing else waits for.

async function playOut() {
  if (playing) {
    stopPlayouts();
    return;
  }
  const { at } = tree;
  const stop = new AbortController();
  const games = Number(find("num-games").value);
  playing = stop;
  find("play-out").textContent = "Stop";
  find("play-out").setAttribute("aria-busy", "true");
  find("spoken").textContent = `Playing ${count(games)} games out.`;
  try {
    at.playedOut = await server.playouts(at.line(), games, stop.signal);
    if (tree.at === at) {
      show();
      find("spoken").textContent = find("playouts-say").textContent;
    }
  } catch (error) {
    if (error.name !== "AbortError") say(error.message);
  } finally {
    if (playing === stop) stopPlayouts();
  }
}

function stopPlayouts() {
  playing?.abort();
  playing = null;
  find("play-out").textContent = "Play them out";
  find("play-out").removeAttribute("aria-busy");
}

// Showing.

function show() {
  const { at } = tree;
  const { answer } = at;
  document.title = `${title(answer)} – Tessera`;
  find("title").textContent = title(answer);
  find("title").dataset.turn = answer.is_over ? "" : answer.to_play;
  draw();
  listed.show(answer);
  showOutcome(answer, settings.has_outcome);
  showPlayouts(at.playedOut, answer.to_play, answer.is_over);
  showMoves(find("moves"), tree, (place) => later(() => goTo(place)));
  find("first").disabled = find("back").disabled = find("undo").disabled = !at.parent;
  find("forward").disabled = find("last").disabled = !at.next;
}

function draw() {
  const { answer, playedOut } = tree.at;
  const view = showViews(answer, playedOut);
  const ofPlayouts = playedOut && { ownership: playedOut.ownership, saidBy: answer.is_over ? "ending" : "playouts" };
  const ofModel = view === "owners" && answer.ownership && { ownership: answer.ownership, saidBy: "model" };
  const owners = ofModel || ofPlayouts;
  const points = pointsOf(answer, owners, vertex);
  const lastMove = answer.last_move;
  const width = find("board").clientWidth;
  const highest = likeliest(answer)[0][1];
  picture.draw(points, { size: answer.board_size, width, view, lastMove, highest, vertex });
  grid.show(points, lastMove, answer.to_play);
  showLegend(find("legend"), view, answer, heat, owners?.saidBy);
  look(points.find((point) => point.name === lookedAt) ?? null);
}

/** Offer what can be shown of a position; the view that is. Playouts have their own where the model says owners too. */
function showViews(answer, playedOut) {
  const button = (value) => document.querySelector(`[name=view][value=${value}]`);
  const [owners, played] = [button("owners"), button("played")];
  owners.disabled = !answer.ownership && !playedOut;
  owners.parentElement.title = answer.ownership ? "Whose each point will be, says the model" : "Once games were played out from here";
  played.disabled = !answer.ownership || !playedOut;
  played.parentElement.hidden = played.disabled;
  if (played.checked && played.disabled) owners.checked = true;
  if (owners.checked && owners.disabled) button("map").checked = true;
  return document.querySelector("[name=view]:checked").value;
}

/** Say in a line what is known of a point, now and after the next moves. */
function look(point) {
  lookedAt = point?.name ?? null;
  const shown = point ?? grid.chosen;
  find("point").textContent = shown ? pointSays(shown.name, shown, tree.at.answer?.last_move) : "\u00a0";
  find("play-here").hidden = !grid.chosen;
  if (grid.chosen) find("play-here").textContent = `Play ${grid.chosen.name}`;
}

function showTemperature() {
  const value = Number(find("temperature").value);
  find("temperature-value").textContent = value.toFixed(1);
  const less = value < 1 ? "Likely moves are played more often than the map says." : "Unlikely moves are played more often than the map says.";
  find("temperature-says").textContent =
    value === 0 ? "The model plays the likeliest move." : value === 1 ? "The model plays each move as often as the map says." : less;
}

// Files.

async function save() {
  const content = await server.save(tree.pairs(), tree.root.start);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = `tessera-${new Date().toISOString().slice(0, 16).replace(/[:T]/g, "-")}.sgf`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function load(file) {
  const found = await server.load(file);
  const loaded = Tree.of(found.tree, found.start);
  await begin(loaded, loaded.end);
  if (found.games > 1) say(`This is the first of ${found.games} games in the file`);
}

// What can be pressed.

const actions = {
  first: () => later(() => goTo(tree.root)),
  back: () => later(goToParent),
  forward: () => later(goToChild),
  last: () => later(() => goTo(tree.end)),
  pass: () => later(() => play("pass")),
  undo: () => later(takeBack),
  answer: () => later(() => letModelPlay()),
  new: () => later(beginAnew),
  save: () => later(save),
  load: () => find("file").click(),
  "play-out": playOut,
  "play-here": () => later(() => play(grid.chosen.name)),
  "put-back": () => later(bringBack),
  "close-message": beQuiet,
};
for (const [id, action] of Object.entries(actions)) find(id).addEventListener("click", action);

const keys = {
  p: actions.pass, b: actions.back, f: actions.forward, u: actions.undo, r: actions["put-back"], m: actions.answer, o: playOut, n: actions.new,
  v: () => later(goToVariation), PageUp: actions.first, PageDown: actions.last,
};
find("grid").addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
find("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) later(() => load(file));
  event.target.value = "";
});
find("sides").addEventListener("change", answerIfAsked);
find("temperature").addEventListener("input", showTemperature);
for (const radio of document.querySelectorAll("[name=view]")) radio.addEventListener("change", draw);
new ResizeObserver(() => tree.at.answer && draw()).observe(find("board"));

find("model").textContent = `${settings.board_size}×${settings.board_size}, komi ${settings.komi}, ${settings.name}`;
find("board").style.setProperty("--size", settings.board_size);
showTemperature();
later(() => goTo(tree.root));
