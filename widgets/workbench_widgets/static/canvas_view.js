// What a canvas shows of a grid of cells, and where its cursor goes. Pure functions: no DOM, no state.
//
// A room: {columns, rows, width, height, most, square, count}: cells, pixels for them, pixels that a cell grows to at most,
// whether cells stay square, and how many there are where the last row is not full.
// A view: {x, y, sx, sy}: the cell in the upper left corner, in fractions, and pixels of a cell across and down.

const held = (value, low, high) => Math.max(low, Math.min(high, value));

/** All cells. */
export function wholeView({ columns, rows, width, height, square }) {
  const [sx, sy] = [width / columns, height / rows];
  return square ? { x: 0, y: 0, sx: Math.min(sx, sy), sy: Math.min(sx, sy) } : { x: 0, y: 0, sx, sy };
}

/** The nearest view that shows no more than there is, and no cell larger than the room allows. */
export function heldView(view, room) {
  const least = wholeView(room);
  const [sx, sy] = [held(view.sx, least.sx, Math.max(room.most, least.sx)), held(view.sy, least.sy, Math.max(room.most, least.sy))];
  const hold = (at, count, space) => Math.max(0, Math.min(at, count - space));
  return { x: hold(view.x, room.columns, room.width / sx), y: hold(view.y, room.rows, room.height / sy), sx, sy };
}

/** Whether all cells are seen. */
export function isWhole(view, room) {
  const least = wholeView(room);
  return view.sx <= least.sx && view.sy <= least.sy;
}

/** Whether there is anything to zoom into: cells that are half as large as they can be are large enough, except for text. */
export function hasZoom(room) {
  const least = wholeView(room);
  return Math.min(least.sx, least.sy) < room.most / (room.square ? 1 : 2);
}

/** The view after zooming around a point of the canvas; an axis whose cells are large enough stays. */
export function zoomed(view, factor, px, py, room) {
  const { sx, sy } = heldView({ ...view, sx: view.sx * factor, sy: view.sy * factor }, room);
  return heldView({ x: view.x + px / view.sx - px / sx, y: view.y + py / view.sy - py / sy, sx, sy }, room);
}

/** The view after its cells were moved by so many pixels. */
export function panned(view, dx, dy, room) {
  return heldView({ ...view, x: view.x - dx / view.sx, y: view.y - dy / view.sy }, room);
}

/** The view moved so that what the cursor stands on is inside it, with some room. */
export function following(view, at, room, [wide, high] = [1, 1]) {
  const into = (start, from, size, seen) => {
    const margin = Math.max(0, Math.min(3, seen / 8, (seen - size) / 2));
    if (from < start + margin) return from - margin;
    return from + size > start + seen - margin ? from + size + margin - seen : start;
  };
  return heldView({ ...view, x: into(view.x, at.x, wide, room.width / view.sx), y: into(view.y, at.y, high, room.height / view.sy) }, room);
}

/** The nearest place of the cursor, which stands on `grain` cells at a time. */
export function placed({ x, y }, { columns, rows }, [wide, high] = [1, 1]) {
  const hold = (value, count, size) => Math.floor(held(value, 0, count - 1) / size) * size;
  return { x: hold(x, columns, wide), y: hold(y, rows, high) };
}

/** The place under a point, null where there is none. */
export function placeUnder(px, py, view, room, grain) {
  if (!(px >= 0 && py >= 0)) return null;
  const at = placed({ x: Math.floor(view.x + px / view.sx), y: Math.floor(view.y + py / view.sy) }, room, grain);
  return room.count && at.y * room.columns + at.x >= room.count ? null : at;
}

/**
 * The place after a key, null for another key. Arrows go a step, Home and End along the row, PageUp and PageDown along the
 * column; where cells are counted, the end of a row leads into the next one.
 */
export function stepped(at, key, room, grain = [1, 1], [across, down] = grain) {
  const moves = { ArrowLeft: [-across, 0], ArrowRight: [across, 0], ArrowUp: [0, -down], ArrowDown: [0, down],
    Home: [-room.columns, 0], End: [room.columns, 0], PageUp: [0, -room.rows], PageDown: [0, room.rows] };
  if (!Object.hasOwn(moves, key)) return null;
  const [dx, dy] = moves[key];
  const next = placed({ x: at.x + dx, y: at.y + dy }, room, grain);
  if (!room.count) return next;
  const flows = key === "ArrowLeft" || key === "ArrowRight";
  const n = held(flows ? at.y * room.columns + at.x + dx : next.y * room.columns + next.x, 0, room.count - 1);
  return { x: n % room.columns, y: Math.floor(n / room.columns) };
}

/** What is seen of the cells from `from` to `to`, in pixels: [start, size], with size 0 outside. */
export function seen(from, to, start, scale, space) {
  const [low, high] = [held((from - start) * scale, 0, space), held((to - start) * scale, 0, space)];
  return [low, high - low];
}

/** Where what the cursor stands on is seen, in pixels: [left, top, width, height], or null outside. */
export function boxOf(at, view, room, [wide, high]) {
  const [[left, width], [top, height]] = [seen(at.x, at.x + wide, view.x, view.sx, room.width), seen(at.y, at.y + high, view.y, view.sy, room.height)];
  return width > 0 && height > 0 ? [left, top, width, height] : null;
}

/** Cells that get a label: every so many, so that labels have room. */
export function labelled(at, room, scale, length, least = 13) {
  const every = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000].find((n) => n * scale >= (n === 1 ? least : 24)) ?? 20000;
  const found = [];
  for (let cell = Math.ceil(at / every) * every; cell < Math.min(length, at + room / scale); cell += every) found.push(cell);
  return { every, tokens: found };
}
