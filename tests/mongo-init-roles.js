// Loaded before mongo-init.js by mongo-init.sh: holds each user that it makes or changes to exactly one role, and passes
// the rest on without it, since FerretDB has no roles. On a real MongoDB the roles are passed on as well.
{
  const prototype = Object.getPrototypeOf(db);
  const hasRoles = db.getSiblingDB("admin").runCommand({ buildInfo: 1 }).ferretdbVersion === undefined;

  const check = (database, account) => {
    const wanted = [{ role: "readWrite", db: database.getName() }];
    if (JSON.stringify(account.roles) !== JSON.stringify(wanted)) {
      throw new Error(`roles ${JSON.stringify(account.roles)} instead of ${JSON.stringify(wanted)}`);
    }
    print("roles as wanted");
    return hasRoles ? account : { ...account, roles: [] };
  };

  const { createUser, updateUser } = prototype;
  prototype.createUser = function (account) {
    return createUser.call(this, check(this, account));
  };
  prototype.updateUser = function (user, account) {
    return updateUser.call(this, user, check(this, account));
  };
}
