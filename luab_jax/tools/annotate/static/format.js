// Numbers and times as people read them.

const number = new Intl.NumberFormat('en');
const day = new Intl.DateTimeFormat('en', { weekday: 'short', day: 'numeric', month: 'short' });
const clock = new Intl.DateTimeFormat('en', { hour: '2-digit', minute: '2-digit', hour12: false });

export const count = (n) => number.format(n);

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** 75 s: '1:15'; with tenths for a player. */
export function duration(ms, tenths = false) {
  const seconds = tenths ? Math.floor(ms / 100) / 10 : Math.round(ms / 1000);
  const rest = (seconds % 60).toFixed(tenths ? 1 : 0).padStart(tenths ? 4 : 2, '0');
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}:${rest}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, '0')}:${rest}`;
}

/** ms since 1970: 'today 14:05' or with `today` '' '14:05', 'Tue, 3 Nov 14:05'. */
export function moment(ms, today = 'today ') {
  const date = new Date(ms);
  const isToday = date.toDateString() === new Date().toDateString();
  return `${isToday ? today : `${day.format(date)} `}${clock.format(date)}`;
}

export function ago(ms) {
  const minutes = Math.floor((Date.now() - ms) / 60000);
  if (minutes < 1) return 'just now';
  if (minutes < 60) return `${minutes} min ago`;
  return minutes < 1440 ? `${Math.floor(minutes / 60)} h ago` : moment(ms);
}

/** 7 s: '7.0 s'; 125 s: '2:05 min'. */
export function spell(ms) {
  return ms < 60000 ? `${(ms / 1000).toFixed(1)} s` : `${duration(ms)} min`;
}

/** What the flags of quality.py mean. */
export const FLAGS = {
  gold_missed: 'too few of the known positives were chosen',
  false_alarms: 'too many known negatives were chosen',
  disagrees: 'less than half of what this or another answer chose is in both',
  fast: 'less than a third of the median time',
  all: 'everything was selected',
  none: 'nothing was selected',
  same_point: 'most clicks are at the same position in their images',
  no_moves: 'most clicks have no movement before them',
  straight: 'most movements are straight and without a pause',
  outside_boxes: 'too few points are in a box of their class',
};
