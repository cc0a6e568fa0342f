// Checks the icons on the practice page.

// placed: Map {c: {x, y}}; answers: [{c, x, y, r}], where things are, r a fraction of the width;
// ratio: height / width of the image. Returns lists of c: missed, misplaced, wrong (not there).
export function judge(placed, answers, ratio) {
  const spotsOf = (c) => answers.filter((spot) => spot.c === c);
  const isHit = ({ x, y }, spot) => Math.hypot(x - spot.x, (y - spot.y) * ratio) <= spot.r;
  const all = [...placed.keys()];
  const wrong = all.filter((c) => !spotsOf(c).length);
  const misplaced = all.filter((c) => {
    const spots = spotsOf(c);
    return spots.length && !spots.some((spot) => isHit(placed.get(c), spot));
  });
  const missed = new Set(answers.map(({ c }) => c).filter((c) => !placed.has(c)));
  return { missed: [...missed], misplaced, wrong };
}
