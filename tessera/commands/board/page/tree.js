// A game with its variations. A move that was tried stays where it can be found again.

export class Place {
  constructor(parent, move) {
    this.parent = parent;
    this.move = move; // a vertex such as Q16, or pass; null at the beginning
    this.start = null; // of the beginning: the position that was set up, null for the empty board
    this.children = [];
    this.followed = null; // the child that was looked at last
    this.answer = null; // what the server says of the position
    this.playedOut = null; // and of its playouts
  }

  get ply() {
    return this.parent ? this.parent.ply + 1 : 0;
  }

  get root() {
    let place = this;
    while (place.parent) place = place.parent;
    return place;
  }

  /** Whose the move was that led here. */
  get colour() {
    const isWhiteFirst = this.root.start?.to_play === "white";
    return (this.ply % 2 === 1) === isWhiteFirst ? "white" : "black";
  }

  /** The moves from the beginning to here, and what they begin with. */
  line() {
    const moves = [];
    for (let place = this; place.parent; place = place.parent) moves.push(place.move);
    return { moves: moves.reverse(), start: this.root.start };
  }

  /** The place after a move, which is made if nobody has tried it. */
  after(move) {
    let child = this.children.find((each) => each.move === move);
    if (!child) {
      child = new Place(this, move);
      this.children.push(child);
    }
    return child;
  }

  get next() {
    return this.followed ?? this.children[0] ?? null;
  }

  /** How many moves follow. */
  get size() {
    let count = 0;
    const open = [...this.children];
    while (open.length) {
      count += 1;
      open.push(...open.pop().children);
    }
    return count;
  }
}

export class Tree {
  constructor() {
    this.root = this.at = new Place(null, null);
  }

  goTo(place) {
    this.at = place;
    for (let each = place; each.parent; each = each.parent) each.parent.followed = each;
  }

  get end() {
    let place = this.at;
    while (place.next) place = place.next;
    return place;
  }

  /** Remove the place that is looked at, and say how it can be put back. */
  cut() {
    const cut = this.at;
    const { parent } = cut;
    const index = parent.children.indexOf(cut);
    parent.children.splice(index, 1);
    parent.followed = null;
    this.at = parent;
    return () => {
      if (!parent.children.some((each) => each.move === cut.move)) parent.children.splice(index, 0, cut);
      return parent.children.find((each) => each.move === cut.move);
    };
  }

  /** Pairs of the parent's index, -1 for none, and the move; parents first. */
  pairs() {
    const pairs = [];
    const open = this.root.children.map((child) => [-1, child]).reverse();
    while (open.length) {
      const [parent, place] = open.pop();
      const index = pairs.push([parent, place.move]) - 1;
      open.push(...place.children.map((child) => [index, child]).reverse());
    }
    return pairs;
  }

  static of(pairs, start) {
    const tree = new Tree();
    tree.root.start = start;
    const places = [];
    for (const [parent, move] of pairs) {
      places.push((parent < 0 ? tree.root : places[parent]).after(move));
    }
    return tree;
  }
}
