// Makes the user that the web tier logs in as: readWrite on the application's database, and nothing else.
//
// The mongo image runs this once, on the first start of an empty volume. It may be run again at any time: the user
// then has the password and the role that are asked for here, whatever it had before: so a password is changed.
//
//   MONGO_INITDB_DATABASE   the application's database; the user belongs to it, so a URI needs no authSource
//   APP_USERNAME            the user's name, or APP_USERNAME_FILE: a file that holds it
//   APP_PASSWORD            the user's password, or APP_PASSWORD_FILE: a file that holds it

const fs = require("fs");

function setting(name) {
  const file = process.env[`${name}_FILE`];
  if (process.env[name] && file) {
    throw new Error(`mongo-init.js: both ${name} and ${name}_FILE are set; set one of them`);
  }
  // An editor ends a file with a newline, a password does not end with one.
  const value = file ? fs.readFileSync(file, "utf8").replace(/\r?\n$/, "") : process.env[name];
  if (!value) {
    throw new Error(`mongo-init.js: ${name} is missing; set it, or ${name}_FILE to the path of a file with it`);
  }
  return value;
}

const database = db.getSiblingDB(setting("MONGO_INITDB_DATABASE"));
const user = setting("APP_USERNAME");
const account = { pwd: setting("APP_PASSWORD"), roles: [{ role: "readWrite", db: database.getName() }] };

if (database.getUser(user) === null) {
  database.createUser({ user, ...account });
  print(`mongo-init.js: user ${user} made, readWrite on ${database.getName()}`);
} else {
  // Replaces the roles, so that one that was granted by hand does not stay.
  database.updateUser(user, account);
  print(`mongo-init.js: user ${user} exists; its password and role are set again`);
}
