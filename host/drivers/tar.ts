import type { SeedFile } from "../driver.ts";

const BLOCK = 512;

/** A tar archive (POSIX.1-1988 ustar) of regular files owned by root, with paths taken from the root directory. */
export function tarOf(files: readonly SeedFile[], mtimeS: number): Buffer {
  const blocks = files.flatMap((file) => {
    const content = Buffer.from(file.content);
    const padding = Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK);
    return [header(file, content.length, mtimeS), content, padding];
  });
  return Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)]);
}

function header(file: SeedFile, size: number, mtimeS: number): Buffer {
  const name = file.path.replace(/^\/+/, "");
  if (Buffer.byteLength(name) > 100) throw new Error(`a seed file's path is over 100 bytes: ${file.path}`);
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, offset: number, length: number) => {
    block.write(value.toString(8).padStart(length - 1, "0"), offset, "latin1");
  };
  block.write(name, 0, "utf8");
  octal(file.mode & 0o7777, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(size, 124, 12);
  octal(mtimeS, 136, 12);
  block.write("        ", 148, "latin1");
  block.write("0", 156, "latin1");
  block.write("ustar\0" + "00", 257, "latin1");
  block.write("root", 265, "latin1");
  block.write("root", 297, "latin1");
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}
