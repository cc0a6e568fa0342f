"""Colours of the charts, the images and the HTML pages."""

# Figures have a light background of their own, readable on a light and on a dark page.
BACKGROUND, TEXT, GRID = '#f7f6f2', '#24292f', '#d4d2cb'
# Okabe and Ito's colour-blind safe palette; its yellow is too pale for lines.
PALETTE = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#24292f')
RECORDED, PREDICTED = '#2ee6a6', '#ff9d00'
# Violet: of the colours tried, the easiest to tell from both points with any colour blindness.
BOX = '#8a6bff'
