// What the icons task tells its workers.

export const KEYS = [
  ['/', 'search for an icon; Enter goes to it'],
  ['← →', 'previous, next page of icons'],
  ['← ↑ → ↓', 'on an icon: go to another one, and on to the next page'],
  ['Enter', 'position the icon: arrows move the cross (Shift: faster), Enter places it'],
  ['Delete', 'on an icon: remove it from the image'],
  ['Escape', 'cancel dragging or choosing'],
  ['Ctrl+Z', 'undo'],
  ['?', 'this list'],
];

export function instructions(study) {
  const all = study.require_all_pages ? 'Look through all pages of icons' : 'Look through the icons';
  return [
    {
      heading: 'What you do',
      figure: { src: '/static/guide_icons.svg', alt: 'The icon “tree” is dragged onto the tree.' },
      items: [
        'Each page shows one image, and below it icons for kinds of things.',
        'For every kind that you see in the image, drag its icon onto the thing itself.',
        'One icon per kind is enough, even if the image shows several: choose any of them.',
        'Partial views count: the thing may be cut off, far away or half hidden.',
        `${all}, then press “Submit”.`,
      ],
    },
    {
      heading: 'Good to know',
      items: [
        'Drag an icon again to move it. To remove it, drag it off the image or press × in the list.',
        'Instead of dragging, you can click an icon and then the place on the image.',
        'Everything is saved as you go. You can reload, close the laptop or lose the network: open ' +
          'the same link again and continue where you left off.',
        `A practice page comes first, then ${study.pages} pages.`,
        'Everything also works with the keyboard: press ? for the list of keys.',
      ],
    },
  ];
}
