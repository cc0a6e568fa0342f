"""Colours of the charts, the images and the HTML pages."""

BACKGROUND, TEXT, GRID = '#f7f6f2', '#24292f', '#d4d2cb'
# Okabe and Ito's colour-blind safe palette; its yellow is too pale for lines.
PALETTE = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#24292f')
RECORDED, PREDICTED = '#2ee6a6', '#ff9d00'
# Colours of charts on a dark page.
DARK = {BACKGROUND: '#22262b', TEXT: '#e6e8ea', GRID: '#3a4048', PALETTE[0]: '#4aa3df'}
# Violet: of the colours tried, the easiest to tell from both points under any colour blindness.
BOX = '#8a6bff'
