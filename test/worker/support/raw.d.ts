/** A file's text, as the test runner's bundler offers it. */
declare module "*?raw" {
  const text: string;
  export default text;
}
