// Says which Node.js runs, and what a name is that a package exports.
const [package, name] = process.argv.slice(2);
console.log(process.version, typeof require(package)[name]);
