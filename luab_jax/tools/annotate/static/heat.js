// Where an image was clicked, and how long the cursor was where.

import {el} from './ui.js';

const RAMP = [[72, 40, 140], [196, 52, 96], [250, 140, 40], [255, 240, 140]]; // low to high

function color(share) {
  const at = share * (RAMP.length - 1);
  const k = Math.min(Math.floor(at), RAMP.length - 2);
  return RAMP[k].map((low, i) => Math.round(low + (at - k) * (RAMP[k + 1][i] - low)));
}

/** A small canvas of bins × bins with the dwell as colour, to be drawn large and smooth. */
function dwellMap(dwell, bins, most) {
  const map = el('canvas', {width: bins, height: bins});
  const pen = map.getContext('2d');
  const pixels = pen.createImageData(bins, bins);
  for (const [bin, ms] of Object.entries(dwell)) {
    const share = Math.sqrt(ms / most); // a few rests would hide all else
    const alpha = Math.min(230, 60 + 200 * share);
    pixels.data.set([...color(share), alpha], 4 * Number(bin));
  }
  pen.putImageData(pixels, 0, 0);
  return map;
}

/** A figure of an image of `/admin/api/pages/ID` with `layers` {clicks, dwell}. */
export function heatFigure(image, bins, most, layers, caption) {
  const canvas = el('canvas', {'aria-hidden': 'true'});
  const figure = el('figure', {class: 'heat'},
    el('div', {class: 'picture'},
      el('img', {src: image.src, width: image.width, height: image.height, loading: 'lazy',
        alt: image.path}), canvas),
    el('figcaption', {}, caption));
  const draw = () => {
    const {clientWidth: width, clientHeight: height} = canvas;
    if (!width) return;
    const ratio = window.devicePixelRatio;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext('2d');
    pen.scale(ratio, ratio);
    if (layers.dwell) {
      pen.imageSmoothingQuality = 'high';
      pen.drawImage(dwellMap(image.dwell, bins, most), 0, 0, width, height);
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
  return {figure, draw};
}
