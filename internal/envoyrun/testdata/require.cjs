// Says which Node.js runs, and what a name is that a package exports.
const [pkg, name] = process.argv.slice(2);
console.log(process.version, typeof require(pkg)[name]);
