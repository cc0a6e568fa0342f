// Heat maps: where an image was clicked, and where the cursor dwelled for how long.

import { el } from './ui.js';

const RAMP = [[72, 40, 140], [196, 52, 96], [250, 140, 40], [255, 240, 140]]; // low to high
const SIZE = 128; // of the longer side of a map, in px
const SPREAD = 1.6; // of a bin, in bins

function color(share) {
  const at = share * (RAMP.length - 1);
  const k = Math.min(Math.floor(at), RAMP.length - 2);
  return RAMP[k].map((low, i) => Math.round(low + (at - k) * (RAMP[k + 1][i] - low)));
}

/** A small canvas of the image's shape with the dwell as colour, to be drawn over it. */
function dwellMap({ dwell, width, height }, bins, most) {
  const scale = SIZE / Math.max(width, height);
  const [w, h] = [Math.round(scale * width), Math.round(scale * height)];
  const map = el('canvas', { width: w, height: h });
  const pen = map.getContext('2d', { willReadFrequently: true });
  const radius = SPREAD * SIZE / bins;
  for (const [bin, ms] of Object.entries(dwell)) {
    const x = (bin % bins + 0.5) / bins * map.width;
    const y = (Math.floor(bin / bins) + 0.5) / bins * map.height;
    const blob = pen.createRadialGradient(x, y, 0, x, y, radius);
    const share = Math.sqrt(ms / most); // else a few rests would hide all the rest
    blob.addColorStop(0, `rgb(0 0 0 / ${0.25 + 0.75 * share})`);
    blob.addColorStop(1, 'rgb(0 0 0 / 0)');
    pen.fillStyle = blob;
    pen.fillRect(x - radius, y - radius, 2 * radius, 2 * radius);
  }
  const pixels = pen.getImageData(0, 0, map.width, map.height);
  for (let k = 0; k < pixels.data.length; k += 4) {
    const share = pixels.data[k + 3] / 255;
    pixels.data.set([...color(share), 255 * Math.min(0.85, 1.6 * share)], k);
  }
  pen.putImageData(pixels, 0, 0);
  return map;
}

/** A figure of an image of `/admin/api/pages/ID` with `layers` {clicks, dwell}. */
export function heatFigure(image, bins, most, layers, caption) {
  const canvas = el('canvas', { 'aria-hidden': 'true' });
  const figure = el('figure', { class: 'heat' },
    el('div', { class: 'picture' },
      el('img', { src: image.src, loading: 'lazy', alt: image.path }), canvas),
    el('figcaption', {}, caption));
  figure.style.setProperty('--ratio', image.width / image.height);
  const draw = () => {
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!width) return;
    const ratio = window.devicePixelRatio;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext('2d');
    pen.scale(ratio, ratio);
    if (layers.dwell) {
      pen.imageSmoothingQuality = 'high';
      pen.drawImage(dwellMap(image, bins, most), 0, 0, width, height);
    }
    for (const [x, y] of layers.clicks ? image.clicks : []) {
      pen.beginPath();
      pen.arc(x * width, y * height, 5, 0, 2 * Math.PI);
      pen.fillStyle = '#1d9bf0';
      pen.fill();
      pen.lineWidth = 2;
      pen.strokeStyle = '#fff';
      pen.stroke();
    }
  };
  new ResizeObserver(draw).observe(canvas);
  return { figure, draw };
}
